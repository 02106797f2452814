"""L2 entries: arrays of them decoded into extents, and the bits of one.

Entries are uint64 arrays of shape (clusters, words): one word a cluster, or two with extended L2 entries. The second word is the
subcluster bitmap: its lower half says which subclusters are allocated, its upper half which of them read as zeros.
Specification: sections Cluster mapping, Extended L2 Entries.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cowherd import extents as ext
from cowherd.extents import Extents
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.header import Header

Entries = NDArray[np.uint64]
Kinds = NDArray[np.uint8]
Hosts = NDArray[np.int64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]

COPIED = np.uint64(layout.COPIED)
COMPRESSED = np.uint64(layout.COMPRESSED_FLAG)
ZERO = np.uint64(layout.ZERO_FLAG)
OFFSET_MASK = np.uint64(layout.L2_OFFSET_MASK)
ALLOCATED_BITS = np.uint64(layout.ALL_SUBCLUSTERS)
ZERO_BITS = np.uint64(layout.ALL_SUBCLUSTERS << layout.SUBCLUSTERS)
ALL = layout.ALL_SUBCLUSTERS

_SPARSE = 8
"""If fewer than one in so many entries are used, only these are decoded."""


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
    if header.extended_l2:
        return _decode_extended(entries, *_places(words, guest, header), guest, header)
    used = np.flatnonzero(words)
    if len(used) < len(words) // _SPARSE:
        return _decode_sparse(words[used], used, len(words), guest, header)
    return _runs(*_shown(words, guest, header), guest, header.cluster_size)


def _shown(words: NDArray[np.uint64], guest: int, header: Header, used: Indices | None = None) -> tuple[Kinds, Hosts]:
    """Returns the kind and the host offset of each cluster; `used` are the clusters' numbers if they are not adjacent."""
    host, compressed = _places(words, guest, header, used)
    # In a compressed cluster's word, bit 0 is part of the offset. A zero cluster may keep a place in the file (`host`).
    zero = ((words & ZERO) != 0) & ~compressed
    if header.version < 3 and zero.any():
        raise EntryError(_guest_of(zero, guest, header, used), "is a zero cluster, which version 2 does not have")
    kind = np.where(compressed, ext.COMPRESSED, np.where(zero, ext.ZERO, np.where(host != 0, ext.DATA, ext.BACKING)))
    return kind.astype(np.uint8), np.where(host == 0, ext.NOWHERE, host)


def _places(words: NDArray[np.uint64], guest: int, header: Header, used: Indices | None = None) -> tuple[Hosts, Mask]:
    """Returns the host offset of each cluster, 0 if it has none, and which clusters are compressed."""
    compressed = (words & COMPRESSED) != 0
    host = (words & OFFSET_MASK).astype(np.int64)
    host[compressed] = 0
    misaligned = (host & (header.cluster_size - 1)) != 0
    if misaligned.any():
        where = _guest_of(misaligned, guest, header, used)
        raise EntryError(where, f"points to {int(host[misaligned.argmax()]):#x}, which is not a cluster's start")
    return host, compressed


def _guest_of(wrong: Mask, guest: int, header: Header, used: Indices | None) -> int:
    """Returns the guest offset of the first cluster that is `wrong`."""
    index = int(wrong.argmax())
    return guest + (index if used is None else int(used[index])) * header.cluster_size


def _decode_sparse(words: NDArray[np.uint64], used: Indices, number: int, guest: int, header: Header) -> Extents:
    """Returns the extents of `number` clusters, of which only those in `used` have an entry, in `words`."""
    kind, host = _shown(words, guest, header, used)
    mapped = kind != ext.BACKING
    if not mapped.any():
        return ext.single(guest, number * header.cluster_size, ext.BACKING)
    kind, host, used = kind[mapped], host[mapped], used[mapped]
    first = _opens(kind, host, header.cluster_size, used)
    start = used[first]
    end = used[np.append(first[1:], len(used)) - 1] + 1
    runs = ext.build(start, end - start, host[first], kind[first])
    gap_start, gap_end = np.append(0, end), np.append(start, number)
    open_ = gap_start < gap_end
    gaps = ext.build(gap_start, gap_end - gap_start, np.full(len(open_), ext.NOWHERE), np.full(len(open_), ext.BACKING, np.uint8))
    found: Extents = np.concatenate((runs, gaps[open_]))
    found = found[np.argsort(found["start"])]
    found["start"] = found["start"] * header.cluster_size + guest
    found["length"] *= header.cluster_size
    return found


def _decode_extended(entries: Entries, host: Hosts, compressed: Mask, guest: int, header: Header) -> Extents:
    bitmap = np.where(compressed, np.uint64(0), entries[:, 1])  # compressed clusters have no subclusters; the bitmap is reserved
    allocated, zero = bitmap & ALLOCATED_BITS, bitmap >> np.uint64(layout.SUBCLUSTERS)
    wrong = ((allocated & zero) != 0) | ((allocated != 0) & (host == 0))
    if wrong.any():
        raise EntryError(guest + int(wrong.argmax()) * header.cluster_size, "has an impossible subcluster bitmap")
    place = np.where(host == 0, ext.NOWHERE, host)
    # Most images have clusters whose subclusters are all alike; these need no row of 32 for each cluster.
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


def _runs(kind: Kinds, host: Hosts, guest: int, unit: int) -> Extents:
    """Joins equal neighbours before any extent is built: a fully mapped table is often a single run."""
    if len(kind) == 1:
        return ext.single(guest, unit, int(kind[0]), int(host[0]))
    first = _opens(kind, host, unit)
    length = np.diff(np.concatenate((first, [len(kind)]))) * unit
    return ext.build(guest + first * unit, length, host[first], kind[first])


def _opens(kind: Kinds, host: Hosts, unit: int, used: Indices | None = None) -> Indices:
    """Returns the indices of units that do not continue the one before; `used` are their numbers if they are not adjacent."""
    nowhere = host == ext.NOWHERE
    continues = (kind[1:] == kind[:-1]) & np.where(nowhere[1:] | nowhere[:-1], nowhere[1:] & nowhere[:-1], np.diff(host) == unit)
    if used is not None:
        continues &= np.diff(used) == 1
    opens = np.ones(len(kind), np.bool_)
    opens[1:] = ~continues
    return np.flatnonzero(opens)
