"""Uploads under way: how far they are, and those that waited too long."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cowherd.service.records.image import Image, now
from cowherd.service.records.images import create_image, delete_image
from cowherd.service.records.uploads import (
    UploadRecord,
    advance_upload,
    begin_upload,
    count_uploads,
    expired_uploads,
    latest_uploads,
    list_uploads,
    read_upload,
)

MOMENT = now().replace(microsecond=5)


@pytest.fixture(autouse=True)
def begun(connection):
    """Uploads a and b of the images a and b, which wait for an hour and for two."""
    for hours, name in enumerate("ab", 1):
        create_image(connection, Image(id=name))
        upload = UploadRecord(
            id=name,
            image_id=name,
            kind="tus",
            project="p",
            store=f"store {name}",
            temporary=name,
            expires_at=MOMENT + timedelta(hours=hours),
            details={"metadata": {"filename": "x\ny"}},
        )
        begin_upload(connection, upload)


def names(uploads) -> list[str]:
    return [upload.id for upload in uploads]


def test_an_upload_advances(connection):
    assert advance_upload(connection, "a", 1 << 40, MOMENT + timedelta(days=1)) is True
    upload = read_upload(connection, "a")
    assert (upload.offset, upload.expires_at) == (1 << 40, MOMENT + timedelta(days=1))
    assert advance_upload(connection, "none", 1, MOMENT) is False


def test_uploads_are_listed(connection):
    assert names(list_uploads(connection)) == ["a", "b"]
    assert names(list_uploads(connection, image_id="b")) == ["b"]
    assert names(list_uploads(connection, store="store a")) == ["a"]
    assert names(list_uploads(connection, store="store a", image_id="b")) == []


def test_an_upload_expires(connection):
    assert names(expired_uploads(connection, MOMENT + timedelta(minutes=60))) == []
    assert names(expired_uploads(connection, MOMENT + timedelta(minutes=61))) == ["a"]
    assert names(expired_uploads(connection, MOMENT + timedelta(minutes=121))) == ["a", "b"]


def test_an_upload_goes_with_its_image(connection):
    delete_image(connection, "a")
    assert names(list_uploads(connection)) == ["b"]


def test_the_uploads_to_which_something_came_last_come_first(connection):
    assert names(latest_uploads(connection, limit=9)) == ["b", "a"]
    advance_upload(connection, "a", 5, MOMENT + timedelta(days=1))
    assert names(latest_uploads(connection, limit=1)) == ["a"]
    assert [names(latest_uploads(connection, project=project, limit=9)) for project in ("p", "q")] == [["a", "b"], []]
    assert [count_uploads(connection, project=project) for project in (None, "p", "q")] == [2, 2, 0]
