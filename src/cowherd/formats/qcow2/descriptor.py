"""The words that point to compressed clusters.

Specification: section Compressed Clusters Descriptor.
"""

from __future__ import annotations

from cowherd.formats.qcow2 import layout
from cowherd.tuples import NamedTuple


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
