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
    from collections.abc import Sequence
    from typing import TypeVar

    from cowherd.storage.hostfile import HostFile

    Item = TypeVar("Item")
    Stretch = tuple[HostFile, int, int]
    """Bytes of a file that will be read: the file, the offset of the first, and how many."""

BUDGET_BYTES = 32 << 20
"""The most bytes that are asked for before those at the front were taken."""
_MOST_WAITING = 32
"""The most items that are drawn before the first was taken: who draws them plans them, and meanwhile nothing else is done."""
_STEP_BYTES = 128 << 10  # of one request the kernel reads no more than it would read ahead by itself, and that is often this much
_NEAR_BYTES = 1 << 20
"""Where a file is left out for no more than so much, as for a table between data, the kernel still reads ahead by itself."""


def jumps(stretches: Callable[[Item], Iterable[Stretch]]) -> Callable[[Item], Iterator[Stretch]]:
    """Returns what tells only of those `stretches` that don't follow the one before, in the same file.

    To others the kernel's own reading ahead leads, which is faster. It has to be asked for items in the order in which they will
    be read.
    """
    read: HostFile | None = None
    end = 0

    def told(item: Item) -> Iterator[Stretch]:
        nonlocal read, end
        for file, offset, length in stretches(item):
            follows = file is read and 0 <= offset - end <= _NEAR_BYTES
            read, end = file, offset + length
            if not follows:
                yield file, offset, length

    return told


def reading_ahead(items: Iterable[Item], stretches: Callable[[Item], Iterable[Stretch]]) -> Iterator[Item]:
    """Yields `items` in order; the bytes that `stretches` tells of each are asked for before its turn comes."""
    waiting: deque[tuple[Item, int]] = deque()
    asking = _Asking()
    asked = 0
    for item in items:
        count = asking.ask_for(list(stretches(item)))
        waiting.append((item, count))
        asked += count
        while waiting and (asked > BUDGET_BYTES or len(waiting) > _MOST_WAITING or not waiting[0][1]):
            first, count = waiting.popleft()
            asked -= count
            yield first
    yield from (item for item, _ in waiting)


class _Asking:
    """Asks for what the disks must bring."""

    def __init__(self) -> None:
        self._silent: set[HostFile] = set()
        """Files whose file system tells nobody what is in memory: on tmpfs all is, FUSE and NFS read ahead by themselves."""

    def ask_for(self, stretches: Sequence[Stretch]) -> int:
        """Has the kernel begin to read stretches into memory, without waiting; returns how many bytes it was asked for.

        Files of which the first and the last byte are in memory already are left alone.
        """
        ends: dict[HostFile, tuple[int, int]] = {}
        for file, offset, length in stretches:
            ends[file] = ends.get(file, (offset, 0))[0], offset + length - 1
        absent = {file for file, (first, last) in ends.items() if self._is_absent(file, first) or self._is_absent(file, last)}
        asked = 0
        for file, offset, length in stretches:
            if file in absent:
                asked += length
                for begin in range(offset, offset + length, _STEP_BYTES):
                    os.posix_fadvise(file.fd, begin, min(_STEP_BYTES, offset + length - begin), os.POSIX_FADV_WILLNEED)
        return asked

    def _is_absent(self, file: HostFile, offset: int) -> bool:
        """Tells whether a disk would have to be waited for to read a byte."""
        if file in self._silent:
            return False
        try:
            os.preadv(file.fd, [bytearray(1)], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return True
        except OSError:  # a read may fail as well, which the read itself will tell
            self._silent.add(file)
        return False
