"""Blobs that no image has any more: found after a while, and forgotten unless somebody wants them again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cowherd.service.records.blobs import Blob, forget_blob, images_with_blob, read_blob, record_blob, record_place, unused_blobs
from cowherd.service.records.image import Image, now
from cowherd.service.records.images import change_status, create_image, delete_image
from cowherd.service.records.places import places_of
from cowherd.service.records.uploads import UploadRecord, begin_upload, end_upload, note_digest


def create(connection, image_id: str, blob: str) -> None:
    record_blob(connection, Blob(digest=blob, size=1))
    create_image(connection, Image(id=image_id, status="saving"))
    change_status(connection, image_id, ["saving"], "active", blob=blob)


def later():
    return now() + timedelta(hours=1)


@pytest.fixture
def upload(connection) -> str:
    create_image(connection, Image(id="coming"))
    upload = UploadRecord(id="u", image_id="coming", kind="put", project=None, store="s", temporary="t", expires_at=later())
    begin_upload(connection, upload)
    return "u"


def test_a_blob_is_unused_when_its_last_image_is_deleted(connection):
    for image_id in ("one", "two"):
        create(connection, image_id, "b")
    assert images_with_blob(connection, "b") == ["one", "two"]
    delete_image(connection, "one")
    assert images_with_blob(connection, "b") == ["two"]
    assert unused_blobs(connection, later(), 10) == []
    assert forget_blob(connection, "b") is False
    delete_image(connection, "two")
    assert unused_blobs(connection, later(), 10) == ["b"]
    assert unused_blobs(connection, now() - timedelta(hours=1), 10) == []


def test_a_forgotten_blob_is_nowhere(connection):
    create(connection, "one", "b")
    record_place(connection, "b", "s", "upload")
    delete_image(connection, "one")
    assert forget_blob(connection, "b") is True
    assert forget_blob(connection, "b") is False
    assert read_blob(connection, "b") is None
    assert places_of(connection, "b") == []


def test_a_blob_that_an_upload_is_about_to_become_stays(connection, upload):
    create(connection, "one", "b")
    delete_image(connection, "one")
    note_digest(connection, upload, "b")
    assert unused_blobs(connection, later(), 10) == []
    assert forget_blob(connection, "b") is False
    end_upload(connection, upload)
    assert forget_blob(connection, "b") is True


def test_a_blob_that_is_recorded_again_is_used(connection):
    create(connection, "one", "b")
    delete_image(connection, "one")
    record_blob(connection, Blob(digest="b", size=1))
    assert unused_blobs(connection, later(), 10) == []


def test_those_that_are_longest_unused_come_first(connection):
    for name in "cab":
        create(connection, name, name)
    for name in "cab":
        delete_image(connection, name)
    assert unused_blobs(connection, later(), 2) == ["c", "a"]
