"""Has the kernel read bytes of files before they are needed, while those before them are worked on.

The kernel reads ahead by itself where a file is read in order; it can't know where a chain of images goes on. What is asked for
stays within a budget, so that it is still in memory when its turn comes. Bytes that are in memory already are left alone.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from cowherd.storage.hostfile import HostFile

    Item = TypeVar("Item")
    Stretch = tuple[HostFile, int, int]
    """Bytes of a file that will be read: the file, the offset of the first, and how many."""

BUDGET_BYTES = 64 << 20
"""The most bytes that are asked for before those at the front were taken."""
_STEP_BYTES = 128 << 10  # of one request the kernel reads no more than it would read ahead by itself, and that is often this much


_NEAR_BYTES = 1 << 20
"""Where a file is left out for no more than so much, as for a table between data, the kernel still reads ahead by itself."""


def jumps(stretches: Callable[[Item], Iterable[Stretch]]) -> Callable[[Item], Iterator[Stretch]]:
    """Returns what tells only of those `stretches` to which the kernel's own reading ahead does not lead: it is faster.

    It has to be asked for items in the order in which they will be read.
    """
    ends: dict[HostFile, int] = {}

    def told(item: Item) -> Iterator[Stretch]:
        for file, offset, length in stretches(item):
            follows = file in ends and 0 <= offset - ends[file] <= _NEAR_BYTES
            ends[file] = offset + length
            if not follows:
                yield file, offset, length

    return told


def reading_ahead(items: Iterable[Item], stretches: Callable[[Item], Iterable[Stretch]]) -> Iterator[Item]:
    """Yields `items` in order; the bytes that `stretches` tells of each are asked for before its turn comes."""
    waiting: deque[tuple[Item, int]] = deque()
    asked = 0
    for item in items:
        count = sum(ask_for(*one) for one in stretches(item))
        waiting.append((item, count))
        asked += count
        while waiting and (asked > BUDGET_BYTES or not waiting[0][1]):
            first, count = waiting.popleft()
            asked -= count
            yield first
    yield from (item for item, _ in waiting)


def ask_for(file: HostFile, offset: int, length: int) -> int:
    """Has the kernel begin to read bytes of a file into memory, without waiting; returns how many it was asked for.

    Whether it does affects only the time: a read that fails is told to who reads.
    """
    if _is_in_memory(file.fd, offset) and _is_in_memory(file.fd, offset + length - 1):
        return 0
    for begin in range(offset, offset + length, _STEP_BYTES):
        os.posix_fadvise(file.fd, begin, min(_STEP_BYTES, offset + length - begin), os.POSIX_FADV_WILLNEED)
    return length


def _is_in_memory(fd: int, offset: int) -> bool:
    """Tells whether a byte can be read without waiting for a disk, or the file system can't tell (as those in memory)."""
    try:
        os.preadv(fd, [bytearray(1)], offset, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    except OSError:  # it may fail as any read does, which the read itself will tell
        return True
    return True
