"""Keeps the stores in order while the service answers: a thread in each of its processes, of which one at a time works."""

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

LEASE = timedelta(seconds=60)
POLL_SECONDS = 5.0
"""How often it is looked whether there is something to do."""
_NAME = "keeping"
_log = logging.getLogger("cowherd.service")


class Ended(Exception):
    """The service is being ended, or another process keeps the stores now: a duty that takes long stops where it is."""


class Duty(NamedTuple):
    """A work that is done again and again: `work` is called `seconds` after it has ended, with a function to call at least every
    20 seconds, which raises `Ended` when it is time to stop."""

    name: str
    seconds: float
    work: Callable[[Callable[[], None]], object]


class Keeper:
    """A thread that does duties while its process has the lease. A context manager that starts it, and waits for it to end."""

    def __init__(self, database: Database, duties: Sequence[Duty], poll_seconds: float = POLL_SECONDS):
        self._database, self._duties, self._poll_seconds = database, duties, poll_seconds
        self._holder = str(uuid.uuid4())
        self._due = dict.fromkeys((duty.name for duty in duties), 0.0)
        self._renewed = 0.0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ending.set()
        self._thread.join()

    def go_on(self) -> None:
        """Called by a duty from time to time: keeps the lease. Raises `Ended`."""
        if self._ending.is_set():
            raise Ended
        if monotonic() - self._renewed > LEASE.total_seconds() / 3 and not self._takes_lease():
            raise Ended

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                if self._takes_lease():
                    self._do_all()
            except Ended:
                continue
            except DatabaseUnavailable as error:
                _log.error("the keeping of the stores waits: %s", error)
            self._ending.wait(self._poll_seconds)
        self._end_lease()

    def _do_all(self) -> None:
        for duty in self._duties:
            if monotonic() >= self._due[duty.name]:
                self._do(duty)
                self._due[duty.name] = monotonic() + duty.seconds

    def _do(self, duty: Duty) -> None:
        """Does a duty. What fails is told in the log, and tried again when it is due again."""
        self.go_on()
        try:
            duty.work(self.go_on)
        except (Ended, DatabaseUnavailable):
            raise
        except CowherdError as error:
            _log.error("%s: %s", duty.name, error)
        except Exception as error:  # noqa: BLE001  # a mistake in one duty does not end the others
            _log.error("%s failed", duty.name, exc_info=error)

    def _takes_lease(self) -> bool:
        with self._database.write() as connection:
            taken = take_lease(connection, _NAME, self._holder, LEASE)
        self._renewed = monotonic()
        return taken

    def _end_lease(self) -> None:
        try:
            with self._database.write() as connection:
                end_lease(connection, _NAME, self._holder)
        except DatabaseUnavailable as error:
            _log.error("another process keeps the stores only in %s seconds: %s", LEASE.total_seconds(), error)
