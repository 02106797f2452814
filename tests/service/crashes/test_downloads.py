"""Killed at any moment, a task that makes an image of what it downloads ends with the image, or without it and with a reason."""

from __future__ import annotations

import contextlib

import pytest

from cowherd.service.records.image import Image
from cowherd.service.records.pages import Viewer, page
from cowherd.service.records.query import Query
from cowherd.service.records.states import ACTIVE
from cowherd.service.records.tasks import Task, list_tasks
from cowherd.service.web.service import Service
from tests.service.crashes.jobs import Job
from tests.service.crashes.test_jobs import killed_everywhere
from tests.service.crashes.world import World, ask, do_tasks
from tests.service.web.images.test_web_download import CONTENT
from tests.service.web.images.test_web_download import web as web  # noqa: PLC0414  # a fixture


def recorded(world: World) -> tuple[list[Task], list[Image]]:
    with contextlib.closing(world.opened()) as database, database.read() as connection:
        return list_tasks(connection), page(connection, Query(), Viewer(None, everything=True))


def download(world: World, service: Service, url: str) -> None:
    """Asks for the task, unless it is recorded, and does it."""
    if not recorded(world)[0]:
        given = {"import_from": url, "import_from_format": "raw", "image_properties": {"name": "new"}}
        assert ask(service, "POST", "/v2/tasks", {"type": "import", "input": given})[0] == 201
        world.acknowledge("new")
    do_tasks(service)


def check_made(world: World, done: bool) -> None:
    tasks, images = recorded(world)
    assert len(tasks) == len(images) == 1 or not (tasks or images or done or world.acknowledged())
    for task, image in zip(tasks, images, strict=True):
        assert (task.status, task.result, image.status) == ("success", {"image_id": image.id}, ACTIVE)
        world.ids["new"] = image.id
        assert world.content("new") == CONTENT


def check_gone(world: World, done: bool) -> None:
    tasks, images = recorded(world)
    assert images == []
    assert len(tasks) == 1 or not (tasks or done or world.acknowledged())
    assert all(task.status == "failure" and "answered 404" in task.message for task in tasks)


@pytest.mark.parametrize(("path", "check"), [("/image", check_made), ("/none", check_gone)])
def test_killed_at_any_moment_the_task_comes_to_its_end(web, new_tables, tmp_path, path, check):
    def prepare(world: World, _: Service) -> None:
        world.words = (f"import_allowed={web}",)

    job = Job("download", prepare, lambda world, service: download(world, service, f"http://{web}{path}"), check)
    assert sum(1 for _ in killed_everywhere(job, new_tables, tmp_path)) > 1
