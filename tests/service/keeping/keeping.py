"""Stores with images, and ways to damage them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cowherd.service.intake.arriving import Intake
from cowherd.service.intake.upload import Upload
from cowherd.service.records.image import Image
from cowherd.service.records.images import read_image
from cowherd.service.records.places import Place, places_of
from cowherd.service.tasks.copying import copy_blob
from cowherd.stores.directory import DirectoryStore

Queued = Callable[..., Image]

MIB = 1 << 20
DATA = os.urandom(3 * MIB + 100)
"""The content of an image: four pieces."""


def stored(intake: Intake, image: Image, data: bytes = DATA) -> Image:
    """Uploads content for a queued image; returns it active."""
    upload = Upload.begin(intake, image)
    upload.feed(data)
    return upload.finish()


def two_stores(intake: Intake, image: Image) -> dict[str, DirectoryStore]:
    """Returns the intake's store and another one, which both have an image's blob."""
    other = DirectoryStore("other", str(intake.store.directory) + "-other")
    other.prepare()
    copy_blob(intake.database, intake.store, other, image.blob or "")
    return {intake.store.name: intake.store, "other": other}


def change_file(path: Path, change: Callable[[Any], object]) -> None:
    """Changes a file that nobody is to change."""
    path.chmod(0o640)
    with path.open("r+b") as file:
        change(file)


def flip(path: Path, offset: int) -> None:
    """Flips a bit of a file."""

    def change(file: Any) -> None:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))

    change_file(path, change)


def truncate(path: Path, size: int) -> None:
    """Cuts a file off."""
    change_file(path, lambda file: file.truncate(size))


def found(intake: Intake, image: Image) -> Image:
    """Returns an image as it is recorded now."""
    with intake.database.read() as connection:
        return read_image(connection, image.id)


def places(intake: Intake, image: Image) -> dict[str, Place]:
    """Returns the places of an image's blob by the names of their stores."""
    with intake.database.read() as connection:
        return {one.store: one for one in places_of(connection, image.blob or "")}
