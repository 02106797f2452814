"""Keeps the stores in order while the service answers: a thread for each duty, which one of the service's processes does."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from time import monotonic
from typing import NamedTuple, Self

from cowherd.errors import CowherdError
from cowherd.service.records.database import Database
from cowherd.service.records.faults import DatabaseUnavailable
from cowherd.service.records.leases import end_lease, take_lease

LEASE_SECONDS = 60.0
"""How long a process has a duty at least, after it was seen at it: if it dies, another one takes over then."""
_log = logging.getLogger("cowherd.service")


class Ended(Exception):
    """The service is being ended, or another process has the duty now: what takes long stops where it is."""


class Duty(NamedTuple):
    """A work that is done again and again, `seconds` after it was done.

    `work` is given a function to call every few seconds: that raises `Ended` when it is time to stop.
    """

    name: str
    seconds: float
    work: Callable[[Callable[[], None]], object]


class Keeper:
    """The threads that do duties. A context manager that starts them, and waits for them to end."""

    def __init__(self, database: Database, duties: Sequence[Duty]):
        self._ending, holder = threading.Event(), str(uuid.uuid4())
        self._threads = [_Thread(database, duty, holder, self._ending) for duty in duties]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()


class _Thread(threading.Thread):
    """Does one duty whenever it is due, while its process has the lease."""

    def __init__(self, database: Database, duty: Duty, holder: str, ending: threading.Event):
        super().__init__(name=duty.name)
        self._database, self._duty, self._holder, self._ending = database, duty, holder, ending
        self._lease = timedelta(seconds=max(LEASE_SECONDS, 2 * duty.seconds))
        self._renewed = 0.0

    def run(self) -> None:
        while not self._ending.is_set():
            try:
                if self._takes_lease():
                    self._duty.work(self._go_on)
            except Ended:
                continue
            except CowherdError as error:
                _log.error("%s: %s", self._duty.name, error)
            except Exception as error:  # noqa: BLE001  # a mistake in a duty is told, and the duty is tried again
                _log.error("%s failed", self._duty.name, exc_info=error)
            self._ending.wait(self._duty.seconds)
        self._end_lease()

    def _go_on(self) -> None:
        if self._ending.is_set():
            raise Ended
        if monotonic() - self._renewed > LEASE_SECONDS / 3 and not self._takes_lease():
            raise Ended

    def _takes_lease(self) -> bool:
        with self._database.write() as connection:
            taken = take_lease(connection, self._duty.name, self._holder, self._lease)
        self._renewed = monotonic()
        return taken

    def _end_lease(self) -> None:
        try:
            with self._database.write() as connection:
                end_lease(connection, self._duty.name, self._holder)
        except DatabaseUnavailable as error:
            _log.error("%s: another process goes on only in %s: %s", self._duty.name, self._lease, error)
