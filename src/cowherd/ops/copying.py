"""Moving bytes: loads run ahead on a few threads, results are stored in order."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from concurrent.futures import Future

CHUNK_BYTES = 2 << 20
"""Bytes moved at once: large enough that a system call costs nothing, small enough to keep several in memory."""
_AHEAD = 4

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all) as a job goes on."""

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")


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
        self._free: deque[bytearray] = deque()

    def take(self, length: int) -> memoryview:
        """Returns a buffer of `length` bytes with any content."""
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = bytearray(self._size)
        return memoryview(buffer)[:length]

    def give(self, view: memoryview) -> None:
        """Takes back what `take` returned; nobody uses it any more."""
        if isinstance(view.obj, bytearray):
            self._free.append(view.obj)


def nonzero_units(data: bytes | bytearray | memoryview, unit: int) -> NDArray[np.bool_]:
    """Returns which units of `unit` bytes hold anything but zeros; the last one may be shorter. `unit` is a multiple of 8.

    Most units that hold data show it in their first word, so few are looked at whole.
    """
    whole = len(data) // unit
    words = np.frombuffer(data, np.uint64, whole * unit // 8).reshape(whole, unit // 8)
    found: NDArray[np.bool_] = words[:, 0] != 0
    doubtful = np.flatnonzero(~found)
    for index in doubtful.tolist():
        found[index] = words[index].any()
    if len(data) > whole * unit:
        rest = bool(np.frombuffer(data, np.uint8, -1, whole * unit).any())
        found = np.append(found, rest)
    return found


def runs_of(mask: NDArray[np.bool_]) -> list[tuple[int, int, bool]]:
    """Returns (first, end, value) for each run of equal values."""
    if not len(mask):
        return []
    borders = [0, *(np.flatnonzero(np.diff(mask)) + 1).tolist(), len(mask)]
    return [(first, end, bool(mask[first])) for first, end in itertools.pairwise(borders)]
