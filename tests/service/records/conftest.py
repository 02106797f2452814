"""A database of its own for each test: SQLite in a folder, made by the migrations."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cowherd.service.records.database import Database, open_database
from cowherd.service.records.migration import migrate


@pytest.fixture(scope="session")
def new_tables(tmp_path_factory) -> Path:
    """A file with the tables, to be copied: migrations take longer than most tests."""
    path = tmp_path_factory.mktemp("tables") / "records.db"
    database = open_database(f"sqlite:///{path}")
    migrate(database)
    database.close()
    return path


@pytest.fixture
def database(new_tables, tmp_path) -> Iterator[Database]:
    path = tmp_path / "records.db"
    shutil.copy(new_tables, path)
    database = open_database(f"sqlite:///{path}")
    yield database
    database.close()


@pytest.fixture
def connection(database):
    """A connection whose changes are given up after the test."""
    with database.engine.connect().execution_options(cowherd_writing=True) as connection:
        yield connection
