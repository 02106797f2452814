"""A few threads that share out a stream of tasks, with bounded memory and a prompt end when one fails."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Task = TypeVar("Task")

_WORKERS = min(4, os.cpu_count() or 1)


def share_out(
    tasks: Iterator[Task], work: Callable[[Task], int], total: int, progress: Callable[[int, int], None] | None = None
) -> None:
    """Runs `work` on each of `tasks`, on several threads, in no particular order; tasks are drawn only when a thread is free.

    `work` returns how much of `total` it has done, for `progress(done, total)`. The first error ends the others after their
    current task and is raised here.
    """
    lock = threading.Lock()
    stopped = threading.Event()
    done = 0

    def draw() -> Task | None:
        with lock:
            return None if stopped.is_set() else next(tasks, None)

    def run() -> None:
        nonlocal done
        try:
            while (task := draw()) is not None:
                amount = work(task)
                with lock:
                    done += amount
                    if progress:
                        progress(done, total)
        finally:
            stopped.set()

    with ThreadPoolExecutor(_WORKERS) as pool:
        running = [pool.submit(run) for _ in range(_WORKERS)]
        try:
            for future in running:
                future.result()
        finally:
            stopped.set()
