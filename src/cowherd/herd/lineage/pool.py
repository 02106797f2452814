"""Readers that work beside this thread: threads, or processes where there is very much to read."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from threading import active_count
from typing import Generic, TypeVar

from cowherd.herd.lineage.children import Lifeline, begin_child, forking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_THREADS = 16
_PROCESSES = 8

Work = TypeVar("Work")
Result = TypeVar("Result")


class Pool(Generic[Work, Result]):
    """Does the same `job` on one piece of work after another, several at once; both must be such as can be pickled.

    Processes read very many files sooner: threads would wait for the interpreter's lock longer than for the disk. They are used
    only where nothing else runs in this process, since a fork would copy another thread's locks.
    """

    def __init__(self, job: Callable[[Work], Result], *, by_processes: bool):
        self._job = job
        self._lifeline = Lifeline() if by_processes and active_count() == 1 else None
        self._executor = _processes(self._lifeline) if self._lifeline else ThreadPoolExecutor(_THREADS)

    def close(self) -> None:
        """Ends the readers; what has not begun is not done."""
        self._executor.shutdown(cancel_futures=True)
        if self._lifeline:
            self._lifeline.let_go()

    def submit(self, work: Work) -> Future[Result] | None:
        """Has a piece of work done; None if there is nobody left to do so."""
        try:
            with forking():  # the first piece of work has the processes started
                return self._executor.submit(self._job, work)
        except BrokenExecutor:
            return None

    def result(self, future: Future[Result] | None, work: Work) -> Result:
        """Returns what came of `work`, when it is done; does it here if somebody has killed a process."""
        try:
            return future.result() if future else self._job(work)
        except BrokenExecutor:
            return self._job(work)


def _processes(lifeline: Lifeline) -> Executor:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    return ProcessPoolExecutor(_PROCESSES, get_context("fork"), begin_child, (lifeline,))
