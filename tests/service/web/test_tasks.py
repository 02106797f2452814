"""Tasks as administrators, and those who see their images, see them."""

from __future__ import annotations

import contextlib

import pytest

from cowherd.service.records.database import open_database
from cowherd.service.records.tasks import Task, create_task
from tests.service.web.images.test_members import clients as clients  # noqa: PLC0414  # a fixture

ID = "0a1b2c3d-0000-4000-8000-00000000000{}"


@pytest.fixture
def made(clients, tmp_path):
    """An image of the owner's, with two tasks; returns its path."""
    image = clients["owner"].create()
    with (
        contextlib.closing(open_database(f"sqlite:///{tmp_path}/data/records.sqlite")) as database,
        database.write() as connection,
    ):
        for number, status in ((1, "success"), (2, "failure")):
            task = Task(
                id=ID.format(number), type="api_image_import", status=status, owner="one", image_id=image["id"], message="m"
            )
            create_task(connection, task)
    return f"/v2/images/{image['id']}"


def test_administrators_see_all_tasks_page_by_page(clients, made):
    admin = clients["admin"]
    first = admin.get("/v2/tasks?limit=1").json
    assert [one["id"] for one in first["tasks"]] == [ID.format(2)]
    assert "message" not in first["tasks"][0]
    assert [one["id"] for one in admin.get(first["next"]).json["tasks"]] == [ID.format(1)]
    assert [one["status"] for one in admin.get("/v2/tasks?status=failure").json["tasks"]] == ["failure"]
    assert admin.get(f"/v2/tasks/{ID.format(1)}").json["message"] == "m"
    assert admin.get(f"/v2/tasks/{ID.format(9)}").status == 404
    assert clients["owner"].get("/v2/tasks").status == 403


@pytest.mark.parametrize(
    "query", ["limit=x", "limit=-1", "sort_key=x", "sort_dir=x", "type=x", "status=x", f"marker={ID.format(9)}"]
)
def test_a_list_of_tasks_that_makes_no_sense_is_refused(clients, query):
    assert clients["admin"].get(f"/v2/tasks?{query}").status == 400


def test_the_tasks_of_an_image_are_seen_by_those_who_see_it(clients, made):
    tasks = clients["reader"].get(f"{made}/tasks").json["tasks"]
    assert [(one["id"], one["image_id"]) for one in tasks] == [(ID.format(number), made.rpartition("/")[2]) for number in (2, 1)]
    assert clients["other"].get(f"{made}/tasks").status == 404
