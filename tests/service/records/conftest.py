"""A database of its own for each test, made by the migrations: SQLite in a folder, and PostgreSQL where that is installed."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cowherd.service.records.database import Database, open_database
from cowherd.service.records.migration import migrate
from tests.service.records.postgresql import IS_INSTALLED, PROGRAMS, Server

KINDS = ["sqlite", *["postgresql"] * IS_INSTALLED]
TABLES = "tables"
_NUMBERS = itertools.count()


def new_database(url: str) -> Database:
    database = open_database(url)
    migrate(database)
    return database


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    """Which database a test is run with; a module whose tests are about one of them says which."""
    return request.param


@pytest.fixture(scope="session")
def sqlite_tables(tmp_path_factory) -> Path:
    """A file with the tables, to be copied: migrations take longer than most tests."""
    path = tmp_path_factory.mktemp("tables") / "records.db"
    new_database(f"sqlite:///{path}").close()
    return path


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL of our own, on a socket in a folder, with a database that has the tables."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # not below pytest's own: the server runs as another user
    try:
        with Server(folder, PROGRAMS) as server:
            server.create(TABLES, "template0")
            new_database(server.url(TABLES)).close()
            yield server
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def database(kind, request, tmp_path) -> Iterator[Database]:
    if kind == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_tables"), tmp_path / "records.db")
        url = f"sqlite:///{tmp_path / 'records.db'}"
    else:
        server = request.getfixturevalue("server")
        name = f"test_{next(_NUMBERS)}"
        server.create(name, TABLES)
        url = server.url(name)
    database = open_database(url)
    yield database
    database.close()


@pytest.fixture
def connection(kind, request):
    """A connection whose changes are given up after the test."""
    engine = request.getfixturevalue("database" if kind == "sqlite" else "shared").engine
    with engine.connect().execution_options(cowherd_writing=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def shared(server) -> Iterator[Database]:
    """A PostgreSQL database for tests whose changes are given up: to make one takes longer than such a test."""
    server.create("shared", TABLES)
    database = open_database(server.url("shared"))
    yield database
    database.close()
