"""A store and records of their own for each test."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cowherd.service.intake.arriving import Intake
from cowherd.service.records.database import open_database
from cowherd.service.records.image import Image
from cowherd.service.records.images import create_image
from cowherd.service.records.migration import migrate
from cowherd.stores.directory import DirectoryStore


@pytest.fixture(scope="session")
def new_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the tables, to be copied: migrations take longer than most tests."""
    path = tmp_path_factory.mktemp("tables") / "records.db"
    database = open_database(f"sqlite:///{path}")
    migrate(database)
    database.close()
    return path


@pytest.fixture
def intake(new_tables: Path, tmp_path: Path) -> Iterator[Intake]:
    shutil.copy(new_tables, tmp_path / "records.db")
    database = open_database(f"sqlite:///{tmp_path / 'records.db'}")
    store = DirectoryStore("main", str(tmp_path / "store"))
    store.prepare()
    yield Intake(database, store)
    database.close()


@pytest.fixture
def queued(intake: Intake) -> Callable[..., Image]:
    """Makes the record of an image that waits for its bytes."""

    def make(disk_format: str = "raw", container_format: str = "bare", **more: object) -> Image:
        image = Image(id=str(uuid.uuid4()), disk_format=disk_format, container_format=container_format, **more)
        with intake.database.write() as connection:
            create_image(connection, image)
        return image

    return make
