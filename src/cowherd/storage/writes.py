"""Which bytes of several buffers one call writes."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

WRITE_BYTES = 1 << 20
"""The most bytes to write with one call.

For more at once Linux takes memory in pieces of 2 MiB and more for its page cache. These are what a virtual machine gives back to
its host while they are free, and who takes them anew waits for the host: up to twice as long as the write takes otherwise.
"""
_MOST_BUFFERS = 1024  # IOV_MAX


def for_one_write(buffers: Sequence[memoryview], first: int) -> Sequence[memoryview]:
    """Returns what to write next of `buffers`, from the one at index `first` on: `WRITE_BYTES` at most."""
    end, size = first, 0
    while end < len(buffers) and end - first < _MOST_BUFFERS and size < WRITE_BYTES:
        size += len(buffers[end])
        end += 1
    if size <= WRITE_BYTES:
        return buffers[first:end]
    return [*buffers[first : end - 1], buffers[end - 1][: WRITE_BYTES - size]]


def go_on(buffers: list[memoryview], first: int, count: int) -> int:
    """Takes `count` written bytes off the buffers from index `first` on; returns the index of the first one with bytes left."""
    while first < len(buffers) and count >= len(buffers[first]):
        count -= len(buffers[first])
        first += 1
    if count:
        buffers[first] = buffers[first][count:]
    return first
