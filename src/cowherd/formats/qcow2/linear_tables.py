"""Tables in which each entry points one cluster further than the one before: a single run, found without decoding each entry."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from cowherd import extents as ext
from cowherd.extents import Extents
from cowherd.formats.qcow2.entries import COMPRESSED, COPIED, OFFSET_MASK, ZERO
from cowherd.formats.qcow2.header import Header
from cowherd.storage.blocks import BlockFile

Mask = NDArray[np.bool_]


class ClusterReader:
    """Reads many clusters into memory that it keeps and uses again. For one thread."""

    def __init__(self, file: BlockFile, clusters: int, size: int):
        """`clusters` is the most that one call reads, `size` the bytes of one."""
        self._file, self._size = file, size
        self._raw = np.empty((clusters, size), np.uint8)

    def read(self, offsets: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Returns the bytes at each offset, shape (offsets, size), valid until the next call.

        An offset below 0, and all past the file's end, reads as zeros. One request reads all neighbours in the file.
        """
        raw = self._raw[: len(offsets)]
        inside = (offsets >= 0) & (offsets < self._file.size())
        raw[~inside] = 0
        seams = np.flatnonzero((np.diff(offsets) != self._size) | (np.diff(inside))) + 1
        borders = [0, *seams.tolist(), len(offsets)]
        for begin, end in itertools.pairwise(borders):
            if begin < end and inside[begin]:
                self._file.preadinto(int(offsets[begin]), raw[begin:end].reshape(-1).data)
        return raw


def steady_tables(words: NDArray[np.uint64], header: Header) -> Mask:
    """Returns which tables are one run of adjacent clusters with the same flags; `words` has the shape (tables, entries).

    Never a table with extended L2 entries, or one that breaks the specification: decoding each entry finds the fault.
    """
    size, entries = np.uint64(header.cluster_size), words.shape[1]
    if header.extended_l2 or not entries:
        return np.zeros(len(words), np.bool_)
    # All bits but those of an aligned offset: a misaligned one then counts as a flag that is not allowed.
    flags = ~(OFFSET_MASK & ~(size - np.uint64(1)))
    allowed = COPIED | ZERO if header.version >= 3 else COPIED
    first, last = words[:, 0], words[:, -1]
    span = np.uint64((entries - 1) * header.cluster_size)
    steady: Mask = ((first & flags & ~allowed) == 0) & ((first & OFFSET_MASK) != 0)
    steady &= (last - first == span) & (((first ^ last) & flags) == 0) & ((first & COMPRESSED) == 0)
    # The ends decide for most tables. Only for those that pass is each step looked at.
    if steady.any():
        some = words if steady.all() else words[steady]
        steady[steady] = ((some[:, 1:] - some[:, :-1]) == size).all(axis=1)
    return steady


def adjacent_words(first: int, number: int, size: int) -> bytes:
    """Returns the bytes of L2 entries for `number` adjacent clusters; `first` is the first entry, flags included."""
    words = np.arange(number, dtype=np.uint64) * np.uint64(size) + np.uint64(first)
    return words.astype(">u8").tobytes()


def whole_tables(first: NDArray[np.uint64], guest: int, header: Header) -> Extents:
    """Returns the extents of adjacent steady tables, given the first entry of each; the first maps guest offset `guest`."""
    reach = header.l2_entries * header.cluster_size
    start = guest + np.arange(len(first), dtype=np.int64) * reach
    kind = np.where((first & ZERO) != 0, ext.ZERO, ext.DATA).astype(np.uint8)
    return ext.build(start, np.full(len(first), reach), (first & OFFSET_MASK).astype(np.int64), kind)
