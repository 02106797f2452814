"""What QEMU considers, besides the tables themselves, when it reports the status of a run of guest bytes."""

from __future__ import annotations

from itertools import compress

from cowherd.formats.qcow2.refcount_table import read_table, used_clusters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.formats.qcow2.header import Header
    from cowherd.storage.blocks import BlockFile

_L2_CACHE_BYTES = 32 << 20
_SLICE_BYTES = 4096
"""QEMU looks at the L2 tables of a large image in slices of this many bytes; no status that it reports reaches past a slice."""


def metadata_preallocated(file: BlockFile, header: Header) -> bool:
    """Returns whether an image uses more clusters than its file occupies, as QEMU's "qcow2_detect_metadata_preallocation"."""
    stored = file.allocated_bytes()
    if stored is None:
        return False
    real = stored // header.cluster_size
    threshold = max(real * 10 // 9, real + 2)
    in_file = -(-file.size() // header.cluster_size)
    if in_file < threshold:
        return False
    table = read_table(file, header)
    per_block = header.cluster_size * 8 // header.refcount_bits
    used = 0
    for index in compress(range(-(-in_file // per_block)), table):
        inside = min(per_block, in_file - index * per_block)
        used += _used(file.pread(table[index], header.cluster_size), inside, header)
        if used >= threshold:
            return True
    return False


def _used(block: bytes, number: int, header: Header) -> int:
    """Returns how many of the first `number` refcounts in a block are not 0."""
    whole, rest = divmod(number * header.refcount_bits, 8)
    used = used_clusters(block[:whole], header.refcount_order)
    if rest:  # counts below a byte start at the lowest bit
        used += used_clusters(bytes([block[whole] & ((1 << rest) - 1)]), header.refcount_order)
    return used


def status_reach(header: Header) -> int:
    """Returns how many guest bytes one slice of an L2 table maps: the part that QEMU looks at together."""
    return _slice_bytes(header) // header.l2_entry_size * header.cluster_size


def _slice_bytes(header: Header) -> int:
    """Returns how many bytes of an L2 table QEMU looks at together: the whole table if all tables fit in its cache."""
    tables = -(-header.size // header.cluster_size) * header.l2_entry_size
    fits = -(-tables // header.cluster_size) * header.cluster_size <= _L2_CACHE_BYTES
    return header.cluster_size if fits else min(header.cluster_size, _SLICE_BYTES)
