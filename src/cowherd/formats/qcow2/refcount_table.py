"""The refcount table, and how many clusters its blocks count, read without numpy.

Specification: section Host cluster management.
"""

from __future__ import annotations

from itertools import compress

from cowherd.errors import ImageFormatError
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.words import unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array

    from cowherd.formats.qcow2.header import Header
    from cowherd.storage.blocks import BlockFile

_MOST_OFFSET = 1 << 63
"""Offsets have bits 9 to 63; no file is so long."""


def table_words(file: BlockFile, header: Header) -> array[int]:
    """Returns the entries of the refcount table, unchecked."""
    return unpacked(file.pread(header.refcount_table_offset, header.refcount_table_clusters * header.cluster_size))


def read_table(file: BlockFile, header: Header) -> array[int]:
    """Returns the file offset of each refcount block, 0 if there is none. Raises `ImageFormatError` for a misaligned one."""
    words = table_words(file, header)
    for index in compress(range(len(words)), words):
        offset = words[index] & layout.REFCOUNT_OFFSET_MASK
        if offset % header.cluster_size or offset >= _MOST_OFFSET:
            raise ImageFormatError(file.path, f"Image is corrupt: refcount table entry {index} points inside a cluster")
        words[index] = offset
    return words


def used_clusters(counts: bytes, order: int) -> int:
    """Returns how many of the refcounts in (part of) a block are not 0; each has 2^`order` bits."""
    number = int.from_bytes(counts, "big")  # all of them at once, as one long number
    for step in range(order):  # afterwards the lowest bit of each count says whether one of its bits is set
        number |= number >> (1 << step)
    return (number & int.from_bytes(_lowest_bits(len(counts), order), "big")).bit_count()


def _lowest_bits(size: int, order: int) -> bytes:
    """Returns `size` bytes of counts that are all 1."""
    if order >= 3:
        width = 1 << (order - 3)
        return (1).to_bytes(width, "big") * (size // width)
    return bytes([(0xFF, 0x55, 0x11)[order]]) * size
