"""Events: recorded, listed, and forgotten after a while."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cowherd.service.records.events import Event, forget_events, list_events, record_event

FIRST = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def recorded(connection):
    for day, (action, image_id) in enumerate([("create", "a"), ("create", "b"), ("delete", "a"), ("scrub", None)]):
        event = Event(action=action, image_id=image_id, at=FIRST + timedelta(days=day), user_id="u", detail={"n": [day, "\n"]})
        record_event(connection, event)
    return connection


def days(events) -> list[int]:
    return [event.detail["n"][0] for event in events]


def test_an_event_is_read_as_it_was_recorded(recorded):
    event = list_events(recorded, limit=1)[0]
    assert event == Event(action="scrub", at=FIRST + timedelta(days=3), user_id="u", detail={"n": [3, "\n"]}, id=event.id)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, [3, 2, 1, 0]),
        ({"limit": 2}, [3, 2]),
        ({"image_id": "a"}, [2, 0]),
        ({"actions": ["create"]}, [1, 0]),
        ({"actions": ["create", "delete"], "image_id": "a"}, [2, 0]),
    ],
)
def test_the_latest_events_come_first(recorded, asked, found):
    assert days(list_events(recorded, **asked)) == found


def test_events_are_walked_backwards(recorded):
    last = list_events(recorded, limit=2)[-1]
    assert days(list_events(recorded, before=last.id)) == [1, 0]


def test_old_events_are_forgotten(recorded):
    assert forget_events(recorded, FIRST + timedelta(days=2)) == 2
    assert days(list_events(recorded)) == [3, 2]
