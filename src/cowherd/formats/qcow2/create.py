"""Makes a new, empty qcow2 image. The header is written last: an unfinished file is not an image."""

from __future__ import annotations

from array import array

from cowherd.errors import InvalidRequest
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.header import Header, feature_name_table, write_header
from cowherd.formats.qcow2.options import Qcow2Options
from cowherd.formats.qcow2.words import WORD_BYTES, packed, packed_counts, used_counts, zeros
from cowherd.formats.reference import BackingReference
from cowherd.sizes import SECTOR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.storage.blocks import BlockFile

_FEATURE_NAMES_MIN_CLUSTER = 4096


def new_header(size: int, options: Qcow2Options, backing: BackingReference | None = None) -> Header:
    """Returns the header of an image with these choices. The places of its tables are still 0.

    Raises `InvalidRequest` for a size that is not in whole sectors.
    """
    if size < 0 or size % SECTOR:
        raise InvalidRequest(f"Image size must be a multiple of {SECTOR} bytes")
    header = Header(
        version=options.version,
        cluster_bits=options.cluster_bits,
        size=size,
        l1_size=0,
        l1_table_offset=0,
        refcount_table_offset=0,
        refcount_table_clusters=0,
        incompatible=options.incompatible,
        compatible=layout.COMPATIBLE_LAZY_REFCOUNTS if options.lazy_refcounts else 0,
        refcount_order=options.refcount_bits.bit_length() - 1,
        compression_type=layout.COMPRESSION_NAMES.index(options.compression),
    ).with_backing(backing)
    # QEMU leaves the table of names out where it would leave no room for a backing file name.
    if options.version >= 3 and options.cluster_size > _FEATURE_NAMES_MIN_CLUSTER:
        names = feature_name_table()
        header = header.with_extension(names.type, names.data)
    return header


def l1_entries(header: Header) -> int:
    """Returns the number of L1 entries that map the header's virtual size. Raises `InvalidRequest` past the format's limit."""
    entries = -(-header.size // (header.l2_entries * header.cluster_size))
    if entries * 8 > layout.MAX_L1_BYTES:
        raise InvalidRequest("Image size too large for its cluster size: the L1 table would exceed 32 MiB; use larger clusters")
    return entries


def write_empty(file: BlockFile, header: Header) -> Header:
    """Lays out an empty image in an empty file, or on a device: header, refcount table, refcount blocks, L1 table.

    Returns its header.
    """
    size = header.cluster_size
    entries = l1_entries(header)
    l1_clusters = -(-entries * 8 // size)
    per_block = size * 8 // header.refcount_bits
    table_clusters, blocks = refcount_clusters(1 + l1_clusters, per_block, size)
    used = 1 + table_clusters + blocks + l1_clusters
    header = header._replace(
        l1_size=entries,
        l1_table_offset=(1 + table_clusters + blocks) * size,
        refcount_table_offset=size,
        refcount_table_clusters=table_clusters,
    )
    header.pack()  # refuses what does not fit before anything is written
    file.reach(used * size)
    counts = used_counts(used, blocks * per_block, header.refcount_order)
    file.pwrite(
        size, refcount_table(1 + table_clusters, blocks, header, table_clusters) + packed_counts(counts, header.refcount_order)
    )
    if file.is_block_device:
        file.write_zeros(header.l1_table_offset, l1_clusters * size, unmap=True)  # a new file has holes there, a device anything
    file.flush()
    write_header(file, header)
    file.flush()
    return header


def refcount_table(first_block: int, blocks: int, header: Header, clusters: int) -> bytes:
    """Returns a refcount table of `clusters` clusters for adjacent `blocks`, the first in host cluster `first_block`."""
    size = header.cluster_size
    table = zeros(clusters * size // WORD_BYTES)
    table[:blocks] = array("Q", range(first_block * size, (first_block + blocks) * size, size))
    return packed(table)


def refcount_clusters(others: int, per_block: int, cluster_size: int) -> tuple[int, int]:
    """Returns the numbers of (table clusters, blocks) that count `others` clusters and themselves."""
    table, blocks = 1, 1
    while True:
        needed_blocks = -(-(others + table + blocks) // per_block)
        needed_table = -(-needed_blocks * 8 // cluster_size)
        if (needed_table, needed_blocks) == (table, blocks):
            return table, blocks
        table, blocks = max(table, needed_table), max(blocks, needed_blocks)
