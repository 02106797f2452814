"""A Glance and a service to adopt it, of their own for each test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cowherd.service.glance.report import Adopted, Outcome
from cowherd.service.records.database import Database, open_database
from cowherd.service.web.settings import Settings
from cowherd.service.web.upkeep import adopt_glance
from cowherd.stores.directory import DirectoryStore
from tests.service.glance.glance import Glance


@pytest.fixture
def glance(tmp_path: Path) -> Glance:
    return Glance(tmp_path / "glance")


@pytest.fixture
def data(tmp_path: Path, new_tables: Path) -> Path:
    """The data of a service with nothing in it."""
    (tmp_path / "data").mkdir()
    shutil.copy(new_tables, tmp_path / "data/records.sqlite")
    return tmp_path / "data"


@pytest.fixture
def adopt(glance: Glance, data: Path) -> Callable[..., Adopted]:
    """Adopts the Glance; takes settings, and how it is to be done."""

    def run(*, dry_run: bool = False, hard_links: bool = False, **settings: object) -> Adopted:
        chosen = Settings(data=str(data), **settings)
        return adopt_glance(chosen, glance.configuration, dry_run=dry_run, hard_links=hard_links)

    return run


@pytest.fixture
def database(data: Path) -> Iterator[Database]:
    """The service's records."""
    database = open_database(f"sqlite:///{data / 'records.sqlite'}")
    yield database
    database.close()


@pytest.fixture
def store(data: Path) -> DirectoryStore:
    """The service's store."""
    return DirectoryStore("default", str(data / "store"))


@pytest.fixture
def adopted_one(adopt: Callable[..., Adopted]) -> Callable[..., Outcome]:
    """Adopts a Glance with one image; returns what became of that."""

    def run(**how: object) -> Outcome:
        (outcome,) = adopt(**how).images
        return outcome

    return run
