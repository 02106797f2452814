"""Buffers for reading, and the zeros in them."""

from __future__ import annotations

import mmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


def nonzero_units(data: memoryview, unit: int) -> bytes:
    """Returns 1 or 0 for each unit of `unit` bytes: whether it holds anything but zeros. The last unit may be shorter.

    `unit` is a multiple of 8. Most units with data have a first word that is not zero, so few are read whole.
    """
    whole = len(data) // unit * unit
    found = nonzero_by_first_words(data[:whole].cast("Q")[:: unit // 8], lambda at: data[at * unit : (at + 1) * unit])
    return found + bytes([not is_zero(data[whole:])]) if whole < len(data) else found


def nonzero_by_first_words(words: memoryview, unit_at: Callable[[int], memoryview]) -> bytes:
    """Returns what `nonzero_units` does, for units of which the caller has the first 64-bit `words`; `unit_at` reads a unit."""
    found = bytearray(map(bool, words.tolist()))
    doubtful = found.find(0)
    while doubtful >= 0:
        found[doubtful] = not is_zero(unit_at(doubtful))
        doubtful = found.find(0, doubtful + 1)
    return bytes(found)


def runs_of(marks: bytes) -> Iterator[tuple[int, int, bool]]:
    """Yields (first, end, value) for each run of equal marks, each 1 or 0."""
    first = 0
    while first < len(marks):
        value = marks[first]
        end = marks.find(1 - value, first)
        end = len(marks) if end < 0 else end
        yield first, end, bool(value)
        first = end


def _parts(buffer: memoryview) -> Iterator[memoryview]:
    return (buffer[position : position + len(_ZEROS)] for position in range(0, len(buffer), len(_ZEROS)))
