"""Workers beside this thread: threads, or processes if there is very much to read."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from threading import active_count
from typing import TYPE_CHECKING, Generic, TypeVar

from cowherd.herd.lineage.children import Lifeline, begin_child, forking

if TYPE_CHECKING:
    from collections.abc import Callable

_THREADS = 16
_PROCESSES = 8

Work = TypeVar("Work")
Result = TypeVar("Result")


class Pool(Generic[Work, Result]):
    """Calls `job` for one piece of work after another, several at once. `job`, work and results must be picklable.

    Processes read very many files sooner: threads would wait longer for the interpreter's lock than for the disk. They are used
    only if no other thread runs in this process, since a fork would copy that thread's locks.
    """

    def __init__(self, job: Callable[[Work], Result], *, by_processes: bool):
        self._job = job
        self._lifeline = Lifeline() if by_processes and active_count() == 1 else None
        self._executor = _start_processes(self._lifeline) if self._lifeline else ThreadPoolExecutor(_THREADS)

    def close(self) -> None:
        """Ends the workers and drops the work that has not begun."""
        self._executor.shutdown(cancel_futures=True)
        if self._lifeline:
            self._lifeline.let_go()

    def submit(self, work: Work) -> Future[Result] | None:
        """Hands a piece of work to a worker; returns None if all worker processes were killed."""
        try:
            with forking():  # the executor starts its processes with the first piece of work
                return self._executor.submit(self._job, work)
        except BrokenExecutor:
            return None

    def result(self, future: Future[Result] | None, work: Work) -> Result:
        """Waits for `work` and returns its result; does the work here if a worker process was killed."""
        try:
            return future.result() if future else self._job(work)
        except BrokenExecutor:
            return self._job(work)


def _start_processes(lifeline: Lifeline) -> Executor:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    return ProcessPoolExecutor(_PROCESSES, get_context("fork"), begin_child, (lifeline,))
