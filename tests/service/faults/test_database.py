"""A database that fails: at any statement or commit, full, locked by another, not writable, or damaged."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cowherd.service.records import database as records
from cowherd.service.web.service import Service
from tests.service.crashes.jobs import new_image, stored
from tests.service.crashes.world import DATA, OCTETS, OTHER, World, ask
from tests.service.faults.works import WORKS, Work, no_errors_of_its_own, put, read, require_sense_of, require_well

EVERY = 1 if os.environ.get("COWHERD_FAULTS") == "all" else 29
A_MINUTE = pytest.mark.skipif(not os.environ.get("COWHERD_SLOW"), reason="COWHERD_SLOW=1 waits the minute")
SAYINGS = ("disk I/O error", "database or disk is full", "attempt to write a readonly database", "database is locked")


class Failing:
    """Makes statement or commit number `number` of a database fail, and those after it if `lasting`."""

    def __init__(self, service: Service, saying: str, number: int, *, lasting: bool):
        self._dialect, self._saying, self._number, self._lasting = service.database.engine.dialect, saying, number, lasting
        self.met, self._lock = 0, threading.Lock()

    def __enter__(self) -> Failing:
        for name in ("do_execute", "do_commit"):
            setattr(self._dialect, name, self._around(getattr(self._dialect, name)))
        return self

    def __exit__(self, *exc: object) -> None:
        for name in ("do_execute", "do_commit"):
            delattr(self._dialect, name)

    @property
    def struck(self) -> bool:
        return self.met > self._number

    def _around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                self.met += 1
                hit = self.met - 1 == self._number or (self._lasting and self.struck)
            if hit:
                raise sqlite3.OperationalError(self._saying)
            return call(*arguments, **options)

        return watched


@pytest.fixture
def world(new_tables: Path, tmp_path: Path) -> World:
    return World.new(tmp_path, new_tables)


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from here on"])
@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.__name__)
def test_a_statement_that_fails_is_told_and_all_is_well_afterwards(work: Work, lasting: bool, world: World):
    with world.service() as service, no_errors_of_its_own():
        stored(world, service, "old", OTHER)
        number = 0
        while True:
            new_image(world, service, "new", DATA)
            stored(world, service, "spare", DATA[:-number])
            with Failing(service, SAYINGS[number % len(SAYINGS)], number, lasting=lasting) as failing:
                statuses = work(world, service)
            require_sense_of(statuses)
            require_well(world, service, statuses)
            if not failing.struck:
                break
            number += EVERY


def test_a_full_database_still_reads_and_takes_more_when_there_is_room(world: World):
    with world.service() as service, no_errors_of_its_own():
        stored(world, service, "old", OTHER)
        new_image(world, service, "new", DATA)
        with limited(service):
            statuses = [ask(service, "POST", "/v2/images", {"name": "x" * 200})[0] for _ in range(60)]
            assert set(statuses) == {201, 503}
            require_sense_of(put(world, service))  # it may find room in a page that is not full
            assert read(world, service) == [200, 200, 200]
        require_well(world, service, [503])


@contextlib.contextmanager
def limited(service: Service) -> Iterator[None]:
    """Lets a database have no more pages than it has."""
    before = service.database.engine.dialect.do_begin

    def begin(connection: Any) -> None:
        connection.execute("PRAGMA max_page_count = 1").close()  # it is at least as many as there are

    service.database.engine.dialect.do_begin = begin
    try:
        yield
    finally:
        service.database.engine.dialect.do_begin = before
        service.database.close()


@pytest.mark.parametrize("seconds", [0.2, pytest.param(60, marks=A_MINUTE)])
def test_a_database_that_another_locks_is_told_and_reads_go_on(world: World, monkeypatch: pytest.MonkeyPatch, seconds: float):
    if seconds < 60:
        monkeypatch.setattr(records, "BUSY_SECONDS", seconds)
    with world.service() as service, no_errors_of_its_own():
        stored(world, service, "old", OTHER)
        new_image(world, service, "new", DATA)
        with contextlib.closing(sqlite3.connect(world.data / "records.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert put(world, service) == [503]
            assert read(world, service) == [200, 200, 200]
            other.execute("ROLLBACK")
        require_well(world, service, [503])


@pytest.mark.parametrize("seed", range(2))
def test_a_database_in_which_bits_were_flipped_gives_no_error_of_the_service(world: World, seed: int):
    """SQLite tells of pages that make no sense, and the service of values that do not; of a flipped bit in a text nobody can."""
    lot = random.Random(seed)
    with world.service() as service, no_errors_of_its_own():
        for number in range(30):
            new_image(world, service, f"n{number}", DATA)
        stored(world, service, "old", OTHER)
        service.database.close()
        sound = (world.data / "records.sqlite").read_bytes()
        for _ in range(8):
            spoil(world.data / "records.sqlite", sound, lot)
            for method, where in (("GET", "/v2/images"), ("GET", f"/v2/images/{world.ids['old']}"), ("GET", "/healthcheck")):
                assert ask(service, method, where)[0] in (200, 404, 503)
            assert ask(service, "PUT", f"/v2/images/{world.ids['n1']}/file", DATA, OCTETS)[0] in (204, 404, 409, 503)
            service.database.close()


def spoil(path: Path, sound: bytes, lot: random.Random) -> None:
    """Writes a database with some bits flipped."""
    spoiled = bytearray(sound)
    for _ in range(lot.choice((1, 30, 300))):
        spoiled[lot.randrange(len(spoiled))] ^= 1 << lot.randrange(8)
    for left in path.parent.glob(f"{path.name}-*"):
        left.unlink()
    path.write_bytes(spoiled)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("properties", '{"a'),
        ("properties", "[" * 100_000),
        ("properties", "7"),
        ("tags", "{"),
        ("tags", "null"),
        ("locations", '["x"]'),
        ("created_at", "soon"),
        ("updated_at", 1 << 62),
        ("size", "many"),
        ("size", -5),
        ("version", "x"),
        ("virtual_size", b"\xff"),
        ("name", b"\xff"),
        ("status", "melted"),
        ("visibility", "\udcff"),
        ("min_ram", 1.5),
    ],
)
def test_a_record_that_makes_no_sense_is_told(world: World, column: str, value: object):
    with world.service() as service, no_errors_of_its_own():
        stored(world, service, "old", OTHER)
        if value == "\udcff":
            value = "CAST(X'ff' AS TEXT)"
        with sqlite3.connect(world.data / "records.sqlite") as connection:
            connection.execute("PRAGMA ignore_check_constraints = 1")
            given = (value, ()) if str(value).startswith("CAST") else ("?", (value,))
            connection.execute(f"UPDATE images SET {column} = {given[0]}", given[1])
        connection.close()
        for method, where in (
            ("GET", "/v2/images"),
            ("GET", f"/v2/images/{world.ids['old']}"),
            ("GET", f"/v2/images/{world.ids['old']}/file"),
            ("DELETE", f"/v2/images/{world.ids['old']}"),
        ):
            assert ask(service, method, where)[0] in (200, 204, 403, 404, 503), where
