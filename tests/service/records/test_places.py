"""Places: which store has which blob, and in what state."""

from __future__ import annotations

import pytest

from cowherd.service.records.blobs import Blob, record_blob, record_place
from cowherd.service.records.places import (
    bad_places,
    forget_place,
    places_in,
    places_of,
    places_to_verify,
    record_damage,
    record_missing,
)


@pytest.fixture
def placed(connection):
    """Blobs a, b and c, verified in this order in the store "here", and b "there" as well."""
    for digest in "abc":
        record_blob(connection, Blob(digest=digest, size=1))
        record_place(connection, digest, "here", "upload")
    record_place(connection, "b", "there", "copy")
    return connection


def names(places) -> list[str]:
    return [place.blob for place in places]


def test_a_blob_is_in_each_store_that_it_was_put_in(placed):
    assert [(place.store, place.state, place.verified_how) for place in places_of(placed, "b")] == [
        ("here", "whole", "upload"),
        ("there", "whole", "copy"),
    ]
    assert places_of(placed, "none") == []


def test_a_store_is_walked_in_steps(placed):
    assert names(places_in(placed, "here", limit=2)) == ["a", "b"]
    assert names(places_in(placed, "here", after="b", limit=2)) == ["c"]
    assert names(places_in(placed, "nowhere")) == []


def test_damage_is_recorded_with_its_ranges_until_the_place_is_whole_again(placed):
    record_damage(placed, "b", "here", [(0, 4096), (1 << 40, 1 << 41)], "scrub")
    here, there = places_of(placed, "b")
    assert (here.state, here.damage, here.verified_how) == ("damaged", ((0, 4096), (1 << 40, 1 << 41)), "scrub")
    assert there.state == "whole"
    assert bad_places(placed) == [here]
    record_place(placed, "b", "here", "repair")
    assert bad_places(placed) == []
    assert places_of(placed, "b")[0].damage == ()


def test_the_place_that_waited_longest_is_verified_first(placed):
    assert names(places_to_verify(placed, "here", 2)) == ["a", "b"]
    record_place(placed, "a", "here", "scrub")
    assert names(places_to_verify(placed, "here", 9)) == ["b", "c", "a"]


def test_what_is_missing_is_not_verified(placed):
    record_missing(placed, "a", "here", "scrub")
    assert names(places_to_verify(placed, "here", 9)) == ["b", "c"]
    assert [(place.blob, place.state) for place in bad_places(placed)] == [("a", "missing")]


def test_a_place_is_forgotten_once(placed):
    assert forget_place(placed, "b", "there") is True
    assert forget_place(placed, "b", "there") is False
    assert names(places_of(placed, "b")) == ["b"]
