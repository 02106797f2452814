"""How whole all that is stored is: counted for each store, with what is late."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cowherd.service.records import soundness
from cowherd.service.records.blobs import Blob, record_blob, record_place
from cowherd.service.records.image import Image, now
from cowherd.service.records.images import create_image
from cowherd.service.records.places import record_damage, record_missing
from cowherd.service.records.schema import places
from cowherd.service.records.soundness import StoreState, Sums, bad_images, late_bytes, store_states, sums

WEEK = timedelta(days=7)


@pytest.fixture
def stored(connection):
    """Blobs a, b, c and d of 1, 10, 100 and 1000 bytes in the store s, verified 0, 10, 20 days ago and never; d in t as well."""
    moment = now()
    for number, name in enumerate("abcd"):
        record_blob(connection, Blob(digest=name, size=10**number))
        for store in ("s", "t") if name == "d" else ("s",):
            record_place(connection, name, store, "upload", verified=name != "d")
        create_image(connection, Image(id=name, name=name, status="active", blob=name, size=10**number, owner="one"))
        if name != "d":
            age(connection, name, moment, number * 10)
    create_image(connection, Image(id="twin", status="active", blob="a", size=1, owner="two", created_at=moment + WEEK))
    create_image(connection, Image(id="web", status="active", size=5))
    return connection


def age(connection, name, moment, days) -> None:
    verified = moment - timedelta(days=days)
    connection.execute(places.update().where(places.c.blob == name).values(verified_at=verified))


def test_sums_count_each_content_once_and_only_what_is_stored(stored):
    assert sums(stored) == Sums(images=6, named=1112, stored=1111)


def test_what_is_late_was_verified_too_long_ago_or_never(stored):
    found = store_states(stored, ["s", "t", "empty"], now() - WEEK)
    assert found["s"] == StoreState(contents=4, late=3, eldest=None)
    assert found["t"] == StoreState(contents=1, late=1, eldest=None)
    assert found["empty"] == StoreState()
    assert late_bytes(stored, now() - WEEK, 4) == (2110, True)


def test_what_is_missing_can_not_be_late(stored):
    record_missing(stored, "d", "s", "scrub")
    record_missing(stored, "c", "s", "scrub")
    age(stored, "c", now(), 30)
    record_damage(stored, "b", "s", [(0, 5)], "scrub")
    found = store_states(stored, ["s"], now() - WEEK)["s"]
    assert (found.contents, found.damaged, found.missing, found.late) == (4, 1, 2, 0)
    assert late_bytes(stored, now() - WEEK, 0) == (1000, True)  # d in t
    assert found.eldest == soundness.places_to_verify(stored, "s", 1)[0].verified_at


def test_of_very_much_the_bytes_are_reckoned(stored, monkeypatch):
    monkeypatch.setattr(soundness, "_COUNTED_EXACTLY", 1)
    size, exactly = late_bytes(stored, now() - WEEK, 4)
    assert (size % 2, exactly) == (0, False)  # twice what two of them have


def test_images_that_are_not_whole_are_listed_the_latest_first(stored):
    record_damage(stored, "a", "s", [(0, 1)], "scrub")
    record_missing(stored, "d", "t", "scrub")
    assert [image.id for image in bad_images(stored, 9)] == ["twin", "d", "a"]
    assert [image.id for image in bad_images(stored, 1)] == ["twin"]
    assert [[image.id for image in bad_images(stored, 9, owner=owner)] for owner in ("one", "two", "three")] == [
        *(["d", "a"], ["twin"], []),
    ]
