"""Uploads under way."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from cowherd.service.records.image import Image, now
from cowherd.service.records.images import create_image, delete_image
from cowherd.service.records.uploads import UploadRecord, begin_upload, end_upload, note_digest, read_upload


def begin(connection) -> UploadRecord:
    create_image(connection, Image(id="image"))
    upload = UploadRecord(
        id="upload",
        image_id="image",
        kind="file",
        project="p",
        store="main",
        temporary="ab" * 16,
        expires_at=now() + timedelta(days=1),
        length=5,
        reserved=5,
        details={"key": "value"},
    )
    begin_upload(connection, upload)
    return upload


def test_an_upload_is_read_as_it_was_recorded_until_it_ends(connection):
    upload = begin(connection)
    assert read_upload(connection, "upload") == upload
    note_digest(connection, "upload", "cd" * 32)
    assert read_upload(connection, "upload") == msgspec.structs.replace(upload, digest="cd" * 32)
    end_upload(connection, "upload")
    end_upload(connection, "upload")
    assert read_upload(connection, "upload") is None


def test_an_upload_goes_with_its_image(connection):
    begin(connection)
    delete_image(connection, "image")
    assert read_upload(connection, "upload") is None
