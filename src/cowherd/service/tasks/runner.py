"""Runs tasks in threads of this process, each leased, so that another process takes over those of one that died."""

from __future__ import annotations

import contextlib
import logging
import threading
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from cowherd.errors import CowherdError
from cowherd.service.records.faults import DatabaseUnavailable, LeaseLost
from cowherd.service.records.image import now
from cowherd.service.records.tasks import Task, finish_task, renew_lease, take_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cowherd.service.records.database import Database

    Work = Callable[[Task], Any]

LEASE = timedelta(seconds=60)
KEPT = timedelta(days=2)
"""How long the record of a task is kept after its end."""
POLL_SECONDS = 10.0
"""How often tasks are looked for that nobody told of: those of processes that died."""
_log = logging.getLogger("cowherd.service")


class Runner:
    """Threads that do what `works` says for each type of task. A context manager that starts them, and waits for them to end.

    An error that a work raises is the message of its task: `CowherdError` in its own words.
    """

    def __init__(self, database: Database, works: Mapping[str, Work], threads: int = 2):
        self._database, self._works = database, dict(works)
        self._holder = str(uuid.uuid4())
        self._wake, self._ending = threading.Condition(), threading.Event()
        self._told = 0
        self._threads = [threading.Thread(target=self._run, name=f"task-{number}") for number in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        with self._wake:
            self._ending.set()
            self._wake.notify_all()
        for thread in self._threads:
            thread.join()

    def use(self, works: Mapping[str, Work]) -> None:
        """Does tasks by other `works` from now on. Those that are under way go on as they began."""
        self._works = dict(works)

    def wake(self) -> None:
        """Says that there is a new task."""
        with self._wake:
            self._told += 1
            self._wake.notify()

    def _run(self) -> None:
        seen = -1
        while not self._ending.is_set():
            with self._wake:
                if seen == self._told and not self._ending.is_set():
                    self._wake.wait(POLL_SECONDS)
                seen = self._told
            try:
                while not self._ending.is_set() and (task := self._take()) is not None:
                    self._do(task)
            except DatabaseUnavailable as error:
                _log.error("tasks wait: %s", error)
            except Exception as error:  # noqa: BLE001  # a mistake is told, and tasks are looked for again
                _log.error("tasks wait", exc_info=error)

    def _take(self) -> Task | None:
        with self._database.write() as connection:
            return take_task(connection, self._holder, LEASE, self._works)

    def _do(self, task: Task) -> None:
        result, failure = None, None
        with self._keeping_lease(task):
            try:
                result = self._works[task.type](task)
            except CowherdError as error:
                failure = str(error)
            except Exception as error:  # noqa: BLE001  # a task that fails ends itself, and no other
                _log.error("task %s failed", task.id, exc_info=error)
                failure = f"An error of the service: {type(error).__name__}. Try again, or ask its administrator"
        try:
            with self._database.write() as connection:
                finish_task(connection, task.id, self._holder, result=result, failure=failure, expires_at=now() + KEPT)
        except LeaseLost as error:
            _log.error("task %s: %s", task.id, error)

    @contextlib.contextmanager
    def _keeping_lease(self, task: Task) -> Iterator[None]:
        over = threading.Event()

        def renew() -> None:
            while not over.wait(LEASE.total_seconds() / 3):
                try:
                    with self._database.write() as connection:
                        renew_lease(connection, task.id, self._holder, LEASE, task.progress)
                except (LeaseLost, DatabaseUnavailable) as error:
                    _log.error("task %s: %s", task.id, error)

        keeper = threading.Thread(target=renew, name=f"lease-{task.id}")
        keeper.start()
        try:
            yield
        finally:
            over.set()
            keeper.join()
