"""Moves bytes: loads run ahead on a few threads, and results are stored in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable

from cowherd.storage.buffers import page_aligned

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
