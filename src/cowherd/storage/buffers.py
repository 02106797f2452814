"""Memory to read into."""

from __future__ import annotations

import mmap


def page_aligned(size: int) -> memoryview:
    """Returns a writable buffer of `size` bytes, zeros, that begins with a page, and is given back with its last view.

    A read that copies whole pages out of the page cache takes a quarter longer if it has to put them across the borders of pages,
    which is what a `bytearray` makes it do.
    """
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
