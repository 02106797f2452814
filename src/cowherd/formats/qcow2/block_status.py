"""What QEMU considers, besides the tables themselves, when it reports the status of a run of guest bytes."""

from __future__ import annotations

import numpy as np

from cowherd.formats.qcow2.header import Header
from cowherd.formats.qcow2.refcounts import read_table, unpack_counts
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
    for index in np.flatnonzero(table[: -(-in_file // per_block)]).tolist():
        counts = unpack_counts(file.pread(int(table[index]), header.cluster_size), header.refcount_order)
        used += int(np.count_nonzero(counts[: in_file - index * per_block]))
        if used >= threshold:
            return True
    return False


def status_reach(header: Header) -> int:
    """Returns how many guest bytes one slice of an L2 table maps: the part that QEMU looks at together."""
    return _slice_bytes(header) // header.l2_entry_size * header.cluster_size


def _slice_bytes(header: Header) -> int:
    """Returns how many bytes of an L2 table QEMU looks at together: the whole table if all tables fit in its cache."""
    tables = -(-header.size // header.cluster_size) * header.l2_entry_size
    fits = -(-tables // header.cluster_size) * header.cluster_size <= _L2_CACHE_BYTES
    return header.cluster_size if fits else min(header.cluster_size, _SLICE_BYTES)
