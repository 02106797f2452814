"""Memory to read into."""

from __future__ import annotations

import mmap

_ZEROS = memoryview(bytes(1 << 20))
_LOOK = 4 << 10
_LOOKED_FOR = bytes(_LOOK)
"""A copy of so few bytes stays in the processor's nearest cache, and comparing `bytes` is what C does, unlike memoryviews."""


def page_aligned(size: int) -> memoryview:
    """Returns a writable buffer of `size` bytes, zeros, that begins with a page, and is given back with its last view.

    A read that copies whole pages out of the page cache takes a quarter longer if it has to put them across the borders of pages,
    which is what a `bytearray` makes it do.
    """
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def clear(buffer: memoryview) -> None:
    """Fills a buffer with zeros."""
    for position in range(0, len(buffer), len(_ZEROS)):
        part = buffer[position : position + len(_ZEROS)]
        part[:] = _ZEROS[: len(part)]


def is_zero(buffer: memoryview) -> bool:
    """Returns whether a buffer holds nothing but zeros."""
    parts = (buffer[position : position + _LOOK].tobytes() for position in range(0, len(buffer), _LOOK))
    return all(part == (_LOOKED_FOR if len(part) == _LOOK else bytes(len(part))) for part in parts)
