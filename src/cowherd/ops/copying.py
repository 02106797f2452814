"""Moves bytes: loads run ahead on a few threads, and results are stored in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from cowherd.storage.buffers import is_zero, page_aligned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor
    from typing import TypeVar

    Item = TypeVar("Item")
    Loaded = TypeVar("Loaded")

CHUNK_BYTES = 2 << 20
"""Bytes moved at once: so many that the cost of a system call does not count, so few that several fit in memory."""
_AHEAD = 4


def pump(
    items: Iterable[Item],
    load: Callable[[Item], Loaded],
    store: Callable[[Item, Loaded], None],
    is_quick: Callable[[Item], bool] = lambda _: False,
) -> None:
    """Loads items on threads, a few ahead, and stores each in the order given.

    An item for which `is_quick` is true is loaded just before it is stored, without a thread.

    `store(item, loaded)` runs in the calling thread. The first error ends the job, and is raised after everything that was
    started has ended.
    """
    loads: deque[tuple[Item, Future[Loaded] | None]] = deque()

    def store_one() -> None:
        item, future = loads.popleft()
        store(item, load(item) if future is None else future.result())

    pool: ThreadPoolExecutor | None = None
    try:
        for item in items:
            future = None
            if not is_quick(item):
                pool = pool or _start_threads()
                future = pool.submit(load, item)
            loads.append((item, future))
            if len(loads) > _AHEAD:
                store_one()
        while loads:
            store_one()
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _start_threads() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor  # imports logging too, and many jobs need no threads

    return ThreadPoolExecutor(min(4, os.cpu_count() or 1))


class Buffers:
    """Reuses buffers of up to `size` bytes: fresh memory costs as much as reading into it. Safe to use from several threads."""

    def __init__(self, size: int):
        self._size = size
        self._free: deque[memoryview] = deque()

    def take(self, length: int) -> memoryview:
        """Returns a buffer of `length` bytes; what it holds is undefined."""
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = page_aligned(self._size)
        return buffer[:length]

    def give(self, view: memoryview) -> None:
        """Takes back a buffer of `take`, which the caller must not use any more."""
        self._free.append(memoryview(view.obj))


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
