"""Blobs and places: what is known of bytes is added to, and a place that was verified is whole."""

from __future__ import annotations

import msgspec
from sqlalchemy import update

from cowherd.service.records.blobs import DAMAGED, WHOLE, Blob, read_blob, record_blob, record_place
from cowherd.service.records.image import now
from cowherd.service.records.places import place_of
from cowherd.service.records.schema import blobs, places

DIGEST = "ab" * 32


def test_a_blob_is_read_as_it_was_recorded(connection):
    assert read_blob(connection, DIGEST) is None
    blob = Blob(digest=DIGEST, size=5, md5="m", sha512="s", format="raw", virtual_size=512, content_digest="cd" * 32)
    record_blob(connection, blob)
    assert read_blob(connection, DIGEST) == blob


def test_what_was_not_known_of_a_blob_is_added_and_it_is_in_use_again(connection):
    first = Blob(digest=DIGEST, size=5, md5="m", format="raw", unused_since=now())
    record_blob(connection, first)
    record_blob(connection, Blob(digest=DIGEST, size=5, sha256="t", format="iso", virtual_size=512))
    expected = msgspec.structs.replace(first, sha256="t", virtual_size=512, unused_since=None)
    assert read_blob(connection, DIGEST) == expected
    record_blob(connection, Blob(digest=DIGEST, size=5))
    assert read_blob(connection, DIGEST) == expected


def test_a_place_is_whole_once_it_is_recorded_whatever_it_was(connection):
    record_blob(connection, Blob(digest=DIGEST, size=5))
    assert place_of(connection, DIGEST, "main") is None
    record_place(connection, DIGEST, "main", "upload")
    assert place_of(connection, DIGEST, "main").state == WHOLE
    connection.execute(update(places).values(state=DAMAGED, damage=[[0, 5]]))
    assert place_of(connection, DIGEST, "main").state == DAMAGED
    record_place(connection, DIGEST, "main", "upload")
    assert place_of(connection, DIGEST, "main").state == WHOLE
    assert connection.execute(places.select()).one().damage is None
    assert place_of(connection, DIGEST, "other") is None
    assert connection.execute(blobs.select()).one().digest == DIGEST
