"""The connection to PostgreSQL breaks at any statement or commit."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cowherd.service.records.database import open_database
from cowherd.service.records.migration import migrate
from cowherd.service.web.service import Service
from tests.service.crashes.jobs import new_image, stored
from tests.service.crashes.world import DATA, OTHER, World
from tests.service.databases.postgresql import PostgreSQL
from tests.service.faults.works import WORKS, Work, no_errors_of_its_own, require_sense_of, require_well, scrub

ALL = os.environ.get("COWHERD_FAULTS") == "all"
MOMENTS = [(1, False), (1, True)] if ALL else [(29, False)]
"""At each of how many statements, and whether after it."""
_WORKS = WORKS if ALL else [work for work in WORKS if work is not scrub]  # which takes long, and asks little
_NUMBERS = itertools.count()


class Breaking:
    """Breaks the connection before statement or commit number `number` of a service, or after it if `late`."""

    def __init__(self, service: Service, number: int, *, late: bool):
        self._dialect, self._number, self._late = service.database.engine.dialect, number, late
        self.met, self._lock = 0, threading.Lock()

    def __enter__(self) -> Breaking:
        self._dialect.do_execute = self._around(self._dialect.do_execute, lambda cursor: cursor.connection)
        self._dialect.do_commit = self._around(self._dialect.do_commit, lambda connection: connection)
        return self

    def __exit__(self, *exc: object) -> None:
        del self._dialect.do_execute, self._dialect.do_commit

    @property
    def struck(self) -> bool:
        return self.met > self._number

    def _around(self, call: Callable[..., Any], connection_of: Callable[[Any], Any]) -> Callable[..., Any]:
        def watched(subject: Any, *arguments: Any, **options: Any) -> Any:
            with self._lock:
                self.met += 1
                hit = self.met - 1 == self._number
            if hit and not self._late:
                break_off(connection_of(subject))
            done = call(subject, *arguments, **options)
            if hit and self._late:
                break_off(connection_of(subject))
            return done

        return watched


def break_off(connection: Any) -> None:
    """Ends what lies under a connection, as a network does."""
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def world(new_tables: Path, tmp_path: Path, postgresql: PostgreSQL) -> World:
    world = World.new(tmp_path, new_tables)
    address = postgresql.create(f"lost_{next(_NUMBERS)}")
    database = open_database(address)
    migrate(database)
    database.close()
    world.words = (f"database={address}",)
    return world


@pytest.mark.parametrize(("every", "late"), MOMENTS)
@pytest.mark.parametrize("work", _WORKS, ids=lambda work: work.__name__)
def test_a_connection_that_breaks_is_told_and_all_is_well_afterwards(work: Work, every: int, late: bool, world: World):
    with world.service() as service, no_errors_of_its_own():
        stored(world, service, "old", OTHER)
        number = 0
        while True:
            new_image(world, service, "new", DATA)
            stored(world, service, "spare", DATA[: -1 - number])
            with Breaking(service, number, late=late) as breaking:
                statuses = work(world, service)
            require_sense_of(statuses)
            require_well(world, service, statuses)
            if not breaking.struck:
                break
            number += every
