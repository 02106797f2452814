"""Shares out a stream of tasks among a few threads, with bounded memory, and a prompt end when one fails."""

from __future__ import annotations

import os
from itertools import chain, islice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeVar

    Task = TypeVar("Task")

_WORKERS = min(4, os.cpu_count() or 1)
_FEW_BYTES = 2 << 20
"""To start threads takes longer than to read, digest or compare so many bytes."""


def share_out(
    tasks: Iterator[Task], work: Callable[[Task], int], total: int, progress: Callable[[int, int], None] | None = None
) -> None:
    """Runs `work` on each of `tasks`, on several threads, in no particular order; a thread draws a task only when it is free.

    `work` returns how many of `total` bytes it did, for `progress(done, total)`. After the first error the other threads end with
    their current task, and the error is raised here. The calling thread is one of the threads, and the only one for a single task
    or few bytes.
    """
    first = list(islice(tasks, 2))
    if len(first) < 2 or total <= _FEW_BYTES:
        _do_alone(chain(first, tasks), work, total, progress)
        return
    import threading

    shared = _Shared(chain(first, tasks), work, total, progress)
    helpers = [threading.Thread(target=shared.take_part) for _ in range(_WORKERS - 1)]
    try:
        for helper in helpers:
            helper.start()
        shared.take_part()
    finally:
        shared.stopped.set()
        for helper in helpers:
            if helper.ident is not None:  # starting an earlier one may have failed
                helper.join()
    if shared.failures:
        raise shared.failures[0]


def _do_alone(
    tasks: Iterator[Task], work: Callable[[Task], int], total: int, progress: Callable[[int, int], None] | None
) -> None:
    done = 0
    for amount in map(work, tasks):
        done += amount
        if progress:
            progress(done, total)


class _Shared:
    """The state that the threads of one job share."""

    def __init__(self, tasks: Iterator[Any], work: Callable[[Any], int], total: int, progress: Callable[[int, int], None] | None):
        self._tasks, self._work, self._total, self._progress = tasks, work, total, progress
        from threading import Event, Lock

        self._lock = Lock()
        self._done = 0
        self.stopped = Event()
        self.failures: list[BaseException] = []

    def take_part(self) -> None:
        """Runs tasks until there are no more, or one has failed."""
        try:
            while (task := self._draw()) is not None:
                self._count(self._work(task))
        except BaseException as error:  # noqa: BLE001 - raised again by share_out
            self.failures.append(error)
        finally:
            self.stopped.set()

    def _draw(self) -> Any:
        with self._lock:
            return None if self.stopped.is_set() else next(self._tasks, None)

    def _count(self, amount: int) -> None:
        with self._lock:
            self._done += amount
            if self._progress:
                self._progress(self._done, self._total)
