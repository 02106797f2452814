"""L2 tables as a checker reads them: runs of entries that continue each other, with all their faults.

`entries.decode` stops at the first entry that breaks the specification; a checker wants all of them. A fully mapped table is
often one run, so that the work on runs costs much less than on entries. Specification: Cluster mapping, Extended L2 Entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.entries import ALLOCATED_BITS, COMPRESSED, COPIED, OFFSET_MASK, ZERO, compressed_places
from cowherd.formats.qcow2.header import Header
from cowherd.formats.qcow2.linear_tables import ClusterReader, steady_tables
from cowherd.storage.blocks import BlockFile

Integers = NDArray[np.int64]
Words = NDArray[np.uint64]
Mask = NDArray[np.bool_]

RESERVED = np.uint64(0x3F00_0000_0000_01FE)  # bits 1 to 8 and 56 to 61 of a standard cluster descriptor
_HALF = np.uint64(layout.SUBCLUSTERS)


class Runs(NamedTuple):
    """Runs of L2 entries, one element a run, in the tables' order, without entries that hold nothing.

    Each entry of a run has the flags and the subcluster bitmap of the first, and points one cluster further than the one before.
    """

    table: Integers
    """The index of the run's table among those read together; a run lies in one table."""
    place: Integers
    """The first entry's index in its table. There may be entries that hold nothing between those of a run."""
    length: Integers
    """The number of entries."""
    word: Words
    """The first entry."""
    bitmap: Words
    """The subcluster bitmap, 0 without extended L2 entries."""


class Facts(NamedTuple):
    """The kind of each run's entries, and their faults; one element a run."""

    allocated: Mask
    """Standard cluster descriptors with a host cluster."""
    compressed: Mask
    """Compressed clusters, without those in `mapped_compressed`, whose place is not trusted."""
    offset: Integers
    """File offset of the first entry's cluster or compressed data."""
    size: Integers
    """Bytes from there on that belong to one entry."""
    past_end: Integers
    """The number of entries that end a cluster or more past the file's end; they are the last ones of the run."""
    reserved: Mask
    misaligned: Mask
    """Allocated, but the offset does not begin a cluster."""
    contradictory: Mask
    """Allocated, and a subcluster is both allocated and zero."""
    homeless: Mask
    """Not allocated, but subclusters are."""
    copied_compressed: Mask
    mapped_compressed: Mask
    """Compressed, and the subcluster bitmap is not 0."""

    @property
    def flaws(self) -> Integers:
        """The number of faults of each entry of a run, not counting entries past the file's end."""
        masks = (
            self.reserved,
            self.misaligned,
            self.contradictory,
            self.homeless,
            self.copied_compressed,
            self.mapped_compressed,
        )
        flaws: Integers = np.sum(masks, axis=0, dtype=np.int64)
        return flaws


def read_clusters(file: BlockFile, offsets: Integers, size: int) -> NDArray[np.uint8]:
    """Returns the `size` bytes at each offset, shape (offsets, size); all past the file's end reads as zeros."""
    return ClusterReader(file, len(offsets), size).read(offsets)


def stored_groups(file: BlockFile, offsets: Integers, step: int, size: int) -> Iterator[int]:
    """Yields indexes into the sorted `offsets` at which to read `step` pieces of `size` bytes each.

    Leaves out pieces in the holes of a sparse file, however large it claims to be: they read as zeros.
    """
    begin = 0
    while begin < len(offsets):
        data = file.next_data(int(offsets[begin]))
        if data is None:
            return
        if data >= int(offsets[begin]) + size:
            begin = max(begin + 1, int(np.searchsorted(offsets, data - size, side="right")))
            continue
        yield begin
        begin += step


def find_runs(raw: NDArray[np.uint8], header: Header, *, joined: bool = True) -> Runs:
    """Returns the runs in the L2 tables `raw`, shape (tables, bytes of a table). Each entry is a run if not `joined`."""
    words, bitmaps = _entries(raw, header)
    if joined and bitmaps is None:
        tables = words.reshape(len(raw), -1)
        if steady_tables(tables, header).all():
            rows = len(raw)
            nothing = np.zeros(rows, np.int64)
            length = np.full(rows, header.l2_entries)
            return Runs(np.arange(rows), nothing, length, tables[:, 0].copy(), nothing.astype(np.uint64))
    used = words != 0
    if bitmaps is not None:
        # An entry without a cluster but with allocated subclusters is a fault, and must not be left out.
        used |= (bitmaps & ALLOCATED_BITS) != 0
    place = None if used.all() else np.flatnonzero(used)
    if place is not None:
        words = words[place]
        bitmaps = None if bitmaps is None else bitmaps[place]
    first = _first_of_runs(words, bitmaps, place, header) if joined else np.arange(len(words))
    length = np.diff(first, append=len(words))
    first, length = _split_uneven(first, length, words, header.cluster_size)
    where = first if place is None else place[first]
    bitmap = np.zeros(len(first), np.uint64) if bitmaps is None else bitmaps[first]
    return Runs(where // header.l2_entries, where % header.l2_entries, length, words[first], bitmap)


def join_runs(parts: Sequence[Runs]) -> Runs:
    """Returns the runs of several groups of tables as one; there is at least one part."""
    return parts[0] if len(parts) == 1 else Runs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _entries(raw: NDArray[np.uint8], header: Header) -> tuple[Words, Words | None]:
    stored = raw.reshape(-1).view(">u8")
    if header.extended_l2:
        return stored[::2].astype(np.uint64), stored[1::2].astype(np.uint64)
    return stored.astype(np.uint64), None


def _first_of_runs(words: Words, bitmaps: Words | None, place: Integers | None, header: Header) -> Integers:
    if not len(words):
        return np.empty(0, np.int64)
    breaks = (words[1:] - words[:-1]) != np.uint64(header.cluster_size)
    if bitmaps is not None:
        breaks |= bitmaps[1:] != bitmaps[:-1]
    if place is None:
        breaks[header.l2_entries - 1 :: header.l2_entries] = True
    else:
        table = place // header.l2_entries
        breaks |= table[1:] != table[:-1]
    return np.concatenate(([0], np.flatnonzero(breaks) + 1))


def _split_uneven(first: Integers, length: Integers, words: Words, cluster_size: int) -> tuple[Integers, Integers]:
    """Splits runs whose entries only look alike: compressed ones, and those without an offset or with a carry into other bits."""
    # Such words differ by a cluster's size as well, because their bits mean something else.
    begin = words[first]
    last = begin + (length - 1).astype(np.uint64) * np.uint64(cluster_size)
    uneven = ((begin & COMPRESSED) != 0) | ((begin & OFFSET_MASK) == 0) | (((begin ^ last) & ~OFFSET_MASK) != 0)
    uneven &= length > 1
    if not uneven.any():
        return first, length
    parts = np.where(uneven, length, 1)
    owner = np.repeat(np.arange(len(first)), parts)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(parts) - parts, parts)
    return first[owner] + within, np.where(uneven, 1, length)[owner]


def classify(runs: Runs, header: Header, file_size: int) -> Facts:
    """Returns the facts of `runs` in a file of `file_size` bytes."""
    size = header.cluster_size
    compressed = (runs.word & COMPRESSED) != 0
    host = (runs.word & OFFSET_MASK).astype(np.int64)
    allocated = ~compressed & (host != 0)
    mapped = compressed & (runs.bitmap != 0)
    offset, length = host, np.full(len(host), size)
    if compressed.any():
        place, bytes_stored = compressed_places(runs.word, header.cluster_bits)
        offset, length = np.where(compressed, place, host), np.where(compressed, bytes_stored, size)
    whole = np.where(allocated | (compressed & ~mapped), runs.length, 0)
    # QEMU's rule: a file may end inside its last cluster.
    first_past = np.maximum(-(-(file_size + size - length - offset) // size), 0)
    nothing = np.zeros(len(host), np.bool_)
    return Facts(
        allocated=allocated,
        compressed=compressed & ~mapped,
        offset=offset,
        size=length,
        past_end=whole - np.minimum(whole, first_past),
        reserved=~compressed & ((runs.word & RESERVED) != 0),
        misaligned=allocated & ((host & (size - 1)) != 0),
        contradictory=allocated & (((runs.bitmap >> _HALF) & runs.bitmap) != 0) if header.extended_l2 else nothing,
        homeless=~compressed & (host == 0) & ((runs.bitmap & ALLOCATED_BITS) != 0) if header.extended_l2 else nothing,
        copied_compressed=compressed & ((runs.word & COPIED) != 0),
        mapped_compressed=mapped,
    )


def contains_data(runs: Runs, header: Header) -> Mask:
    """Returns whether the allocated entries of each run hold data, not only a preallocated place."""
    data: Mask = (runs.bitmap & ALLOCATED_BITS) != 0 if header.extended_l2 else (runs.word & ZERO) == 0
    return data
