"""The words of L2 entries, one at a time.

Specification: sections Standard Cluster Descriptor, Compressed Clusters Descriptor.
"""

from __future__ import annotations

from cowherd.formats.qcow2 import layout
from cowherd.kinds import BACKING, DATA, NOWHERE, ZERO
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.formats.qcow2.header import Header


def standard_place(word: int, header: Header) -> tuple[int, int] | None:
    """Returns the host offset and the kind of a cluster, None if it is compressed or its word breaks the specification."""
    host = word & layout.L2_OFFSET_MASK
    if word & layout.COMPRESSED_FLAG or host & (header.cluster_size - 1):
        return None
    if word & layout.ZERO_FLAG:
        return (host or NOWHERE, ZERO) if header.version >= 3 else None
    return (host, DATA) if host else (NOWHERE, BACKING)


class CompressedPlace(NamedTuple):
    """Where a compressed cluster's data lies: file offset and length in bytes, up to the end of its last sector."""

    offset: int
    length: int


def compressed_place(word: int, cluster_bits: int) -> CompressedPlace:
    """Decodes a Compressed Clusters Descriptor."""
    # Below the two flags, the word has a byte offset and above it the number of sectors of 512 bytes after the first. Larger
    # clusters need more bits for that number: x = 62 - (cluster_bits - 8) is where it begins.
    offset_bits = 62 - (cluster_bits - 8)
    offset = word & ((1 << offset_bits) - 1)
    sectors = (word & (layout.COMPRESSED_FLAG - 1)) >> offset_bits
    return CompressedPlace(offset, (sectors + 1) * layout.COMPRESSED_SECTOR - offset % layout.COMPRESSED_SECTOR)


def compressed_word(offset: int, length: int, cluster_bits: int) -> int:
    """Encodes a Compressed Clusters Descriptor for `length` bytes of data at file offset `offset`."""
    last_sector = (offset + length - 1) // layout.COMPRESSED_SECTOR
    further = last_sector - offset // layout.COMPRESSED_SECTOR
    return layout.COMPRESSED_FLAG | further << (62 - (cluster_bits - 8)) | offset
