"""Bytes staged for an import: stored first, judged when they are imported."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3
from sqlalchemy import select

from cowherd.service.intake.arriving import Intake
from cowherd.service.intake.faults import LengthDiffers, Refused, StoreFull
from cowherd.service.intake.staging import Staging
from cowherd.service.intake.upload import Upload
from cowherd.service.records.faults import ImageNotFound, StatusConflict
from cowherd.service.records.image import Image
from cowherd.service.records.images import delete_image, read_image
from cowherd.service.records.schema import uploads
from cowherd.service.records.states import ACTIVE, IMPORTING, QUEUED, UPLOADING
from cowherd.service.records.uploads import UploadRecord, read_upload
from cowherd.stores.faults import StillArriving
from tests.hostile.corpus import seed

MIB = 1 << 20
DATA = os.urandom(MIB + 100) + bytes(MIB)

Queued = Callable[..., Image]


def stage(intake: Intake, image: Image, data: bytes = DATA, length: int | None = None) -> UploadRecord:
    staging = Staging.begin(intake, image, length)
    staging.feed(data[:100])
    staging.feed(data[100:])
    return staging.finish()


def found(intake: Intake, image: Image) -> Image:
    with intake.database.read() as connection:
        return read_image(connection, image.id)


def import_staged(intake: Intake, image: Image, record: UploadRecord) -> Image:
    upload = Upload.of_staged(intake, image, record)
    assert found(intake, image).status == IMPORTING
    upload.feed_staged()
    return upload.finish()


def left(intake: Intake) -> tuple[list[str], int]:
    """Returns what is left of uploads: names of files, and the number of records."""
    with intake.database.read() as connection:
        return [one.name for one in intake.store.incoming()], len(connection.execute(select(uploads)).all())


def test_what_was_staged_waits_and_is_imported(intake: Intake, queued: Queued):
    image = queued()
    record = stage(intake, image, length=len(DATA))
    assert found(intake, image).status == UPLOADING
    with intake.database.read() as connection:
        assert read_upload(connection, record.id) == record
    assert record.offset == len(DATA)
    assert not intake.store.is_held(record.temporary or "")
    done = import_staged(intake, image, record)
    assert (done.status, done.size, done.blob) == (ACTIVE, len(DATA), blake3(DATA).hexdigest())
    assert intake.store.path(done.blob or "").read_bytes() == DATA
    assert intake.store.verify(done.blob or "") == ()
    assert left(intake) == ([], 0)


def test_what_is_refused_at_the_import_is_gone_and_the_image_queued(intake: Intake, queued: Queued, tmp_path: Path):
    hostile = seed()
    hostile.backing(b"/etc/passwd")
    image = queued("qcow2")
    record = stage(intake, image, hostile.write(tmp_path / "hostile").read_bytes())
    with pytest.raises(Refused, match="backing-file"):
        import_staged(intake, image, record)
    assert found(intake, image).status == QUEUED
    assert "backing-file" in (found(intake, image).reason or "")
    assert left(intake) == ([], 0)


def test_staging_that_breaks_off_leaves_nothing(intake: Intake, queued: Queued):
    image = queued()
    with pytest.raises(LengthDiffers):
        stage(intake, image, length=len(DATA) + 1)
    staging = Staging.begin(intake, image)
    staging.feed(DATA)
    staging.abandon("The client went away")
    assert (found(intake, image).status, found(intake, image).reason) == (QUEUED, "The client went away")
    assert left(intake) == ([], 0)


def test_a_full_disk_while_staging_is_told(intake: Intake, queued: Queued, monkeypatch: pytest.MonkeyPatch):
    image = queued()
    staging = Staging.begin(intake, image)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwritev", full)
    with pytest.raises(StoreFull):
        staging.feed(DATA)
    assert found(intake, image).status == QUEUED
    assert left(intake) == ([], 0)


def test_an_image_deleted_while_staging_leaves_nothing(intake: Intake, queued: Queued):
    image = queued()
    staging = Staging.begin(intake, image)
    staging.feed(DATA)
    with intake.database.write() as connection:
        delete_image(connection, image.id)
    with pytest.raises(ImageNotFound):
        staging.finish()
    assert left(intake) == ([], 0)


def test_of_two_imports_one_does_it(intake: Intake, queued: Queued):
    image = queued()
    record = stage(intake, image)
    first = Upload.of_staged(intake, image, record)
    with pytest.raises(StillArriving):
        Upload.of_staged(intake, image, record)
    first.feed_staged()
    assert first.finish().status == ACTIVE


def test_only_what_was_staged_is_imported(intake: Intake, queued: Queued):
    image = queued()
    record = stage(intake, queued())
    with pytest.raises(StatusConflict):
        Upload.of_staged(intake, image, msgspec.structs.replace(record, image_id=image.id))
    assert found(intake, image) == image
    assert not intake.store.is_held(record.temporary or "")
