"""What failed: told with the image that got no content, found by index, for all and for one project."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from cowherd.service.records import failures
from cowherd.service.records.failures import count_failures, list_failures, note_failure, queue_again, telling_why
from cowherd.service.records.faults import StatusConflict
from cowherd.service.records.image import Image
from cowherd.service.records.images import create_image, read_image
from cowherd.service.records.schema import events


@pytest.fixture
def failed(connection):
    """Failures of two projects' images, in turns."""
    for number in range(4):
        create_image(connection, Image(id=f"{number}", name=f"n{number}", owner=("one", "two")[number % 2], status="saving"))
        queue_again(connection, f"{number}", {"saving"}, f"reason {number}", size=None)
    return connection


def test_the_image_waits_again_and_says_why(failed):
    image = read_image(failed, "2")
    assert (image.status, image.reason) == ("queued", "reason 2")


def test_nothing_is_told_of_an_image_in_another_state(failed):
    with pytest.raises(StatusConflict):
        queue_again(failed, "2", {"saving"}, "again")
    assert count_failures(failed) == 4


def test_an_image_that_waits_tells_why_it_goes_on_waiting(database):
    with database.write() as connection:
        create_image(connection, Image(id="1", owner="one"))
    with pytest.raises(KeyError), telling_why(database, "1", KeyError):
        raise KeyError("no room")
    with database.read() as connection:
        image = read_image(connection, "1")
        assert (image.status, image.reason, image.version) == ("queued", "'no room'", 2)
        assert [event.detail["reason"] for event in list_failures(connection, project="one", limit=9)] == ["'no room'"]


@pytest.mark.parametrize(("status", "error"), [("saving", KeyError("no room")), ("queued", ValueError("another kind"))])
def test_nothing_is_told_of_an_image_that_gets_content_or_of_other_errors(database, status, error):
    with database.write() as connection:
        create_image(connection, Image(id="1", status=status))
    with pytest.raises(type(error)), telling_why(database, "1", KeyError):
        raise error
    with database.read() as connection:
        assert (read_image(connection, "1").reason, count_failures(connection)) == (None, 0)


def test_the_latest_failures_come_first(failed):
    assert [event.detail["reason"] for event in list_failures(failed, limit=3)] == ["reason 3", "reason 2", "reason 1"]


def test_a_project_is_told_of_its_own(failed):
    found = list_failures(failed, project="two", limit=9)
    assert [(event.image_id, event.detail["name"]) for event in found] == [("3", "n3"), ("1", "n1")]
    assert (count_failures(failed, project="two"), count_failures(failed, project="three")) == (2, 0)


def test_an_image_that_is_gone_is_no_error(failed):
    note_failure(failed, "gone", "it was deleted")
    assert list_failures(failed, limit=1)[0].detail == {"name": None, "reason": "it was deleted"}


@pytest.mark.parametrize("kind", ["sqlite"])  # whose plan it is
@pytest.mark.parametrize(
    ("project", "index"), [(None, "events_by_action (action=?)"), ("one", "events_by_project (project=? AND action=?)")]
)
def test_failures_are_found_by_an_index_in_their_order(connection, kind, project, index):
    asked = select(events).where(*failures._failed(project)).order_by(events.c.id.desc()).limit(9)
    compiled = asked.compile(connection.engine, compile_kwargs={"literal_binds": True})
    steps = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}")]
    assert steps == [f"SEARCH events USING INDEX {index}"]
