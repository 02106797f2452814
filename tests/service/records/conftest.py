"""A database of its own for each test, made by the migrations: SQLite in a folder, and PostgreSQL."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cowherd.service.records.database import Database, open_database
from cowherd.service.records.migration import migrate
from tests.service.databases.postgresql import PostgreSQL

KINDS = ["sqlite", "postgresql"]
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
def server(postgresql: PostgreSQL) -> PostgreSQL:
    """PostgreSQL, with a database that has the tables, to be copied."""
    new_database(postgresql.create(TABLES)).close()
    return postgresql


@pytest.fixture
def database(kind, request, tmp_path) -> Iterator[Database]:
    if kind == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_tables"), tmp_path / "records.db")
        url = f"sqlite:///{tmp_path / 'records.db'}"
    else:
        url = request.getfixturevalue("server").create(f"test_{next(_NUMBERS)}", TABLES)
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
def shared(server: PostgreSQL) -> Iterator[Database]:
    """A PostgreSQL database for tests whose changes are given up: to make one takes longer than such a test."""
    database = open_database(server.create("shared", TABLES))
    yield database
    database.close()
