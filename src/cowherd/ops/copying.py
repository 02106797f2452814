"""Moving bytes: loads run ahead on a few threads, results are stored in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from cowherd.storage.buffers import is_zero, page_aligned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures import Future
    from typing import TypeVar

    Item = TypeVar("Item")
    Loaded = TypeVar("Loaded")

CHUNK_BYTES = 2 << 20
"""Bytes moved at once: large enough that a system call costs nothing, small enough to keep several in memory."""
_AHEAD = 4

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all) as a job goes on."""


def pump(
    items: Iterable[Item],
    load: Callable[[Item], Loaded],
    store: Callable[[Item, Loaded], None],
    is_quick: Callable[[Item], bool] = lambda _: False,
) -> None:
    """Loads items on threads, a few ahead, and stores each in the order given.

    Those that `is_quick` says take no time to load are loaded when their turn to be stored has come.

    `store(item, loaded)` runs in the calling thread. The first error ends the job and is raised; everything that was started has
    ended by then.
    """
    from concurrent.futures import ThreadPoolExecutor  # it brings logging with it, which a conversion does without

    loads: deque[tuple[Item, Future[Loaded] | None]] = deque()

    def store_one() -> None:
        item, future = loads.popleft()
        store(item, load(item) if future is None else future.result())

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        try:
            for item in items:
                loads.append((item, None if is_quick(item) else pool.submit(load, item)))
                if len(loads) > _AHEAD:
                    store_one()
            while loads:
                store_one()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


class Buffers:
    """Buffers of up to `size` bytes to be used again and again: fresh memory costs as much as reading into it.

    May be used from several threads.
    """

    def __init__(self, size: int):
        self._size = size
        self._free: deque[memoryview] = deque()

    def take(self, length: int) -> memoryview:
        """Returns a buffer of `length` bytes with any content."""
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = page_aligned(self._size)
        return buffer[:length]

    def give(self, view: memoryview) -> None:
        """Takes back what `take` returned; nobody uses it any more."""
        self._free.append(memoryview(view.obj))


def nonzero_units(data: memoryview, unit: int) -> bytes:
    """Tells of each unit of `unit` bytes whether it holds anything but zeros, as 1 or 0; the last one may be shorter.

    `unit` is a multiple of 8. Most units that hold data show it in their first word, so few are looked at whole.
    """
    whole = len(data) // unit * unit
    found = bytearray(map(bool, data[:whole].cast("Q")[:: unit // 8].tolist()))
    doubtful = found.find(0)
    while doubtful >= 0:
        found[doubtful] = not is_zero(data[doubtful * unit : (doubtful + 1) * unit])
        doubtful = found.find(0, doubtful + 1)
    if whole < len(data):
        found.append(not is_zero(data[whole:]))
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
