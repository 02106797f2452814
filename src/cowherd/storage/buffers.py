"""Buffers for reading."""

from __future__ import annotations

import mmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_ZEROS = bytes(1 << 20)


def page_aligned(size: int) -> memoryview:
    """Returns a writable buffer of `size` bytes, zeros, that begins a page. Its memory is freed with its last view.

    A read that copies whole pages out of the page cache takes a quarter longer if each of them crosses a border of pages, as in a
    `bytearray`.
    """
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def clear(buffer: memoryview) -> None:
    """Fills a buffer with zeros."""
    zeros = memoryview(_ZEROS)
    for part in _parts(buffer):
        part[:] = zeros[: len(part)]


def is_zero(buffer: memoryview) -> bool:
    """Returns whether all bytes of a buffer are zeros."""
    return all(map(_ZEROS.startswith, _parts(buffer)))  # makes no copy, and stops where they differ, unlike memoryviews' ==


def _parts(buffer: memoryview) -> Iterator[memoryview]:
    return (buffer[position : position + len(_ZEROS)] for position in range(0, len(buffer), len(_ZEROS)))
