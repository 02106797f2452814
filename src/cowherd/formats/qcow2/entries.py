"""L2 entries: arrays of them decoded into extents, and the bits of one.

Entries are uint64 arrays of shape (clusters, words): one word a cluster, or two with extended L2 entries (the second is the
subcluster bitmap). Specification: sections Cluster mapping, Extended L2 Entries.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cowherd import extents as ext
from cowherd.extents import Extents
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.header import Header

Entries = NDArray[np.uint64]

COPIED = np.uint64(layout.COPIED)
COMPRESSED = np.uint64(layout.COMPRESSED_FLAG)
ZERO = np.uint64(layout.ZERO_FLAG)
OFFSET_MASK = np.uint64(layout.L2_OFFSET_MASK)
ALLOCATED_BITS = np.uint64(layout.ALL_SUBCLUSTERS)
ZERO_BITS = np.uint64(layout.ALL_SUBCLUSTERS << layout.SUBCLUSTERS)
ALL = layout.ALL_SUBCLUSTERS


class EntryError(ValueError):
    """An L2 entry breaks the specification. Attribute: `guest`, the guest offset of its cluster."""

    def __init__(self, guest: int, problem: str):
        super().__init__(f"the L2 entry of guest offset {guest:#x} {problem}")
        self.guest = guest


def compressed_places(words: NDArray[np.uint64], cluster_bits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Decodes many Compressed Clusters Descriptors; returns their file offsets and their lengths in bytes."""
    offset_bits = 62 - (cluster_bits - 8)
    offset = (words & np.uint64((1 << offset_bits) - 1)).astype(np.int64)
    sectors = ((words & np.uint64(layout.COMPRESSED_FLAG - 1)) >> np.uint64(offset_bits)).astype(np.int64)
    return offset, (sectors + 1) * layout.COMPRESSED_SECTOR - offset % layout.COMPRESSED_SECTOR


def data_word(host: int) -> int:
    """Encodes the first word of a cluster that this image alone uses, at file offset `host`."""
    return host | layout.COPIED


def decode(entries: Entries, guest: int, header: Header) -> Extents:
    """Returns the extents of adjacent clusters, the first of them at guest offset `guest`.

    Raises `EntryError` for the first entry that breaks the specification.
    """
    words = entries[:, 0]
    compressed = (words & COMPRESSED) != 0
    host = (words & OFFSET_MASK).astype(np.int64)
    host[compressed] = 0
    _check_alignment(host, guest, header)
    if header.extended_l2:
        return _decode_extended(entries, host, compressed, guest, header)
    zero = ((words & ZERO) != 0) & ~compressed
    if header.version < 3 and zero.any():
        raise EntryError(guest + int(zero.argmax()) * header.cluster_size, "is a zero cluster, which version 2 does not have")
    kind = np.where(compressed, ext.COMPRESSED, np.where(zero, ext.ZERO, np.where(host != 0, ext.DATA, ext.BACKING)))
    return _runs(kind.astype(np.uint8), np.where(host == 0, ext.NOWHERE, host), guest, header.cluster_size)


def _check_alignment(host: NDArray[np.int64], guest: int, header: Header) -> None:
    crooked = (host & (header.cluster_size - 1)) != 0
    if crooked.any():
        index = int(crooked.argmax())
        raise EntryError(guest + index * header.cluster_size, f"points to {int(host[index]):#x}, which is not a cluster's start")


def _decode_extended(
    entries: Entries, host: NDArray[np.int64], compressed: NDArray[np.bool_], guest: int, header: Header
) -> Extents:
    bitmap = np.where(compressed, np.uint64(0), entries[:, 1])
    allocated, zero = bitmap & ALLOCATED_BITS, bitmap >> np.uint64(layout.SUBCLUSTERS)
    wrong = ((allocated & zero) != 0) | ((allocated != 0) & (host == 0))
    if wrong.any():
        raise EntryError(guest + int(wrong.argmax()) * header.cluster_size, "has an impossible subcluster bitmap")
    place = np.where(host == 0, ext.NOWHERE, host)
    whole = np.isin(bitmap, (np.uint64(0), ALLOCATED_BITS, ZERO_BITS))
    if whole.all():
        shown = np.where(allocated != 0, ext.DATA, np.where(zero != 0, ext.ZERO, ext.BACKING))
        kind = np.where(compressed, ext.COMPRESSED, shown)
        return _runs(kind.astype(np.uint8), place, guest, header.cluster_size)
    bits = np.arange(layout.SUBCLUSTERS, dtype=np.uint64)
    has_data = (allocated[:, None] >> bits) & np.uint64(1) != 0
    has_zero = (zero[:, None] >> bits) & np.uint64(1) != 0
    kind = np.where(has_data, ext.DATA, np.where(has_zero, ext.ZERO, ext.BACKING)).astype(np.uint8)
    kind[compressed] = ext.COMPRESSED
    step = np.arange(layout.SUBCLUSTERS, dtype=np.int64) * header.subcluster_size
    place = np.where(place[:, None] == ext.NOWHERE, ext.NOWHERE, place[:, None] + step)
    return _runs(kind.ravel(), place.ravel(), guest, header.subcluster_size)


def _runs(kind: NDArray[np.uint8], host: NDArray[np.int64], guest: int, unit: int) -> Extents:
    """Joins equal neighbours before any extent is built: a fully mapped table is often a single run."""
    if len(kind) == 1:
        return ext.single(guest, unit, int(kind[0]), int(host[0]))
    nowhere = host == ext.NOWHERE
    continues = (kind[1:] == kind[:-1]) & np.where(nowhere[1:] | nowhere[:-1], nowhere[1:] & nowhere[:-1], np.diff(host) == unit)
    first = np.concatenate(([0], np.flatnonzero(~continues) + 1))
    length = np.diff(np.concatenate((first, [len(kind)]))) * unit
    return ext.build(guest + first * unit, length, host[first], kind[first])
