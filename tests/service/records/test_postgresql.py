"""PostgreSQL: what is particular to it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from sqlalchemy import text

from cowherd.service.records import database as module
from cowherd.service.records.database import open_database
from cowherd.service.records.faults import DatabaseBusy, DatabaseUnavailable, DriverMissing
from cowherd.service.records.image import Image
from cowherd.service.records.images import change_status, create_image
from tests.service.records.postgresql import IS_INSTALLED

needs_server = pytest.mark.skipif(not IS_INSTALLED, reason="PostgreSQL's server or psycopg is not installed")

MIGRATE = """
import sys
from cowherd.service.records.database import open_database
from cowherd.service.records.migration import migrate
migrate(open_database(sys.argv[1]))
"""


@pytest.fixture
def kind() -> str:
    return "postgresql"


def test_a_driver_that_is_missing_is_told(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(DriverMissing, match="psycopg"):
        open_database("postgresql://somebody@host/records")


@needs_server
def test_a_row_that_another_program_holds_for_too_long_is_told(database, monkeypatch):
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.1)
    impatient = open_database(database.engine.url.render_as_string(hide_password=False))
    with database.write() as connection:
        create_image(connection, Image(id="a"))
    with database.write() as connection:
        change_status(connection, "a", ["queued"], "saving")
        with pytest.raises(DatabaseBusy), impatient.write() as other:
            change_status(other, "a", ["queued"], "saving")
    impatient.close()


@needs_server
def test_a_server_that_is_gone_is_told(server):
    nowhere = open_database(server.url("tables").replace(str(server.folder), "/nowhere"))
    with pytest.raises(DatabaseUnavailable), nowhere.read():
        pass


@needs_server
def test_texts_are_sorted_by_code_points(connection):
    for name in ("b", "B", "\u00e4", "a b", "ab"):
        create_image(connection, Image(id=name, name=name))
    names = connection.execute(text("SELECT name FROM images ORDER BY name")).scalars().all()
    assert names == ["B", "a b", "ab", "b", "\u00e4"]


@needs_server
def test_processes_that_make_the_tables_at_once_make_them_once(server):
    server.create("empty", "template0")
    programs = [subprocess.Popen([sys.executable, "-c", MIGRATE, server.url("empty")]) for _ in range(3)]
    assert [program.wait(60) for program in programs] == [0, 0, 0]
