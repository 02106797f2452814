"""Changes the virtual size of a qcow2 image: moves to a larger L1 table if needed, and writes the header last when growing and
first when shrinking."""

from __future__ import annotations

import numpy as np

from cowherd.errors import InvalidRequest
from cowherd.formats.layer import Below
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.state import ImageState
from cowherd.formats.qcow2.writer import Writer


def grow(state: ImageState, writer: Writer, size: int, below: Below | None, below_size: int) -> None:
    """Makes the image `size` bytes large.

    The new bytes read as zeros, also if the backing file (of `below_size` bytes) is larger than the image was. The header names
    the new size only when all of that is durable. Raises `InvalidRequest` past the format's limit.
    """
    metadata, old_size = writer.metadata, state.header.size
    entries = -(-size // metadata.tables.reach)
    if entries * 8 > layout.MAX_L1_BYTES:
        raise InvalidRequest("Image size too large for its cluster size: the L1 table would exceed 32 MiB")
    cluster_size = state.header.cluster_size
    stale_end = -(-old_size // cluster_size) * cluster_size
    writer.deallocate(stale_end, len(metadata.tables.l1) * metadata.tables.reach)  # left there by a shrink that was cut short
    if entries > state.header.l1_size:
        _move_l1(state, writer, entries)
    hidden_end = -(-min(size, below_size) // cluster_size) * cluster_size
    _clear(writer, old_size, min(max(stale_end, hidden_end), max(size, stale_end)), below)
    metadata.flush()
    state.replace_header(state.header._replace(size=size))


def shrink(state: ImageState, writer: Writer, size: int) -> None:
    """Makes the image `size` bytes large; frees the clusters behind that after the header has the new size."""
    old_size = state.header.size
    state.replace_header(state.header._replace(size=size))
    first = -(-size // state.header.cluster_size) * state.header.cluster_size
    end = -(-old_size // state.header.cluster_size) * state.header.cluster_size
    writer.deallocate(first, max(first, end))
    writer.metadata.trim()


def _clear(writer: Writer, start: int, end: int, below: Below | None) -> None:
    """Zeros [start, end) behind the old end: stale bytes of the last cluster, and bytes that the backing file would show."""
    if start < end:
        writer.limit = end
        try:
            writer.zero(start, end - start, below, unmap=False)
        finally:
            writer.limit = None


def _move_l1(state: ImageState, writer: Writer, entries: int) -> None:
    """Writes a larger copy of the L1 table to another place, and frees the old one's clusters."""
    metadata, header = writer.metadata, state.header
    clusters = -(-entries * 8 // header.cluster_size)
    first = metadata.refcounts.allocate_run(clusters)
    grown = np.zeros(entries, np.uint64)
    grown[: len(metadata.tables.l1)] = metadata.tables.l1
    metadata.flush()
    offset = first * header.cluster_size
    state.file.pwrite(offset, grown.astype(">u8").tobytes().ljust(clusters * header.cluster_size, b"\0"))
    state.replace_header(state.header._replace(l1_table_offset=offset, l1_size=entries))
    metadata.tables.l1 = grown
    old_clusters = -(-header.l1_size * 8 // header.cluster_size)
    if old_clusters:
        metadata.free(header.l1_table_offset, old_clusters)
