"""What the first page tells, read at one moment. The number of queries is the same whatever there is."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from cowherd.service.policy.personas import Persona
from cowherd.service.records.events import Event
from cowherd.service.records.failures import count_failures, list_failures
from cowherd.service.records.faults import Unstorable
from cowherd.service.records.image import Image, now
from cowherd.service.records.pages import page
from cowherd.service.records.query import ALL, Query
from cowherd.service.records.quotas import Usage, usage_of
from cowherd.service.records.soundness import StoreState, Sums, bad_images, late_bytes, store_states, sums
from cowherd.service.records.surroundings import Surroundings, names_of, surroundings
from cowherd.service.records.tasks import FAILURE, PENDING, PROCESSING, Task, list_tasks
from cowherd.service.records.uploads import UploadRecord, count_uploads, latest_uploads
from cowherd.service.web.access import viewer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from cowherd.service.web.call import Call

IMAGES, LINES = 100, 20
"""How many images a page has at most, and how many lines each of its lists."""


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """The service as its administrators see it: its stores, its sums, and the `late` bytes that wait to be verified.

    `late_exactly` tells whether those were added up one by one.
    """

    stores: dict[str, StoreState]
    sums: Sums
    late: int
    late_exactly: bool


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is told at the moment `now`: to an administrator of the `whole` service, to others of the `usage` of their project.

    `images` is the page of images with what surrounds it, `is_more` whether others follow. `bad` are images that are not whole,
    `failures` events of those that got no content, `failed` tasks that failed; `names` are those of all images in the lists.
    """

    now: datetime
    whole: Whole | None
    usage: Usage | None
    images: list[Image]
    around: Surroundings
    is_more: bool
    bad: list[Image]
    uploads: list[UploadRecord]
    uploads_in_all: int
    tasks: list[Task]
    failures: list[Event]
    failures_in_all: int
    failed: list[Task]
    names: dict[str, str | None]


class Asked(msgspec.Struct, frozen=True):
    """Which images are asked for: those called `name` (or with it as id), those that are `hidden`, those after `marker`."""

    name: str = ""
    hidden: bool = False
    marker: str | None = None


def asked_of(call: Call) -> Asked:
    """Returns what the query asks for; what it does not know it leaves."""
    given = dict(call.query)
    return Asked(given.get("name", "").strip(), given.get("hidden") == "true", given.get("marker"))


def facts_of(call: Call, asked: Asked) -> Facts:
    """Returns what the first page tells the caller. Raises `MarkerNotFound`, and what the records raise."""
    moment, is_admin = now(), call.caller.has(Persona.ADMIN)
    project = None if is_admin else call.caller.project or ""
    with call.service.database.read() as connection:
        found = _images(call, connection, asked)
        uploads = latest_uploads(connection, project=project, limit=LINES)
        failures = list_failures(connection, project=project, limit=LINES)
        tasks = [*_tasks(connection, PROCESSING, project), *_tasks(connection, PENDING, project)][:LINES]
        failed = _tasks(connection, FAILURE, project)
        return Facts(
            now=moment,
            whole=_whole(call, connection, moment) if is_admin else None,
            usage=None if project is None else usage_of(connection, project),
            images=found[:IMAGES],
            around=surroundings(connection, found[:IMAGES], viewer(call)),
            is_more=len(found) > IMAGES,
            bad=bad_images(connection, LINES + 1, owner=project),
            uploads=uploads,
            uploads_in_all=count_uploads(connection, project=project),
            tasks=tasks,
            failures=failures,
            failures_in_all=count_failures(connection, project=project),
            failed=failed,
            names=names_of(connection, _told_of(uploads, failures, tasks, failed)),
        )


def late_since(call: Call, moment: datetime) -> datetime:
    """Returns since when all content is to have been verified."""
    return moment - timedelta(days=call.service.settings.scrub_days)


def _whole(call: Call, connection: Connection, moment: datetime) -> Whole:
    since = late_since(call, moment)
    stores = store_states(connection, call.service.stores, since)
    size, exactly = late_bytes(connection, since, sum(one.late for one in stores.values()))
    return Whole(stores=stores, sums=sums(connection), late=size, late_exactly=exactly)


def _told_of(*lists: Sequence[UploadRecord | Event | Task]) -> set[str]:
    """Returns the ids of the images that lists tell of."""
    return {one.image_id for some in lists for one in some if one.image_id is not None}


def _tasks(connection: Connection, status: str, project: str | None) -> list[Task]:
    return list_tasks(connection, status=status, owner=project, limit=LINES)


def _images(call: Call, connection: Connection, asked: Asked) -> list[Image]:
    """Returns the images of the page, and one more if there is one."""
    # To an administrator the list of the API does not show what others made for whoever knows it.
    visibility = ALL if call.caller.has(Persona.ADMIN) else None
    every = Query(visibility=visibility, os_hidden=asked.hidden, limit=IMAGES + 1, marker=asked.marker)
    called = [msgspec.structs.replace(every, choices={key: [asked.name]}) for key in ("name", "id")]
    queries = called if asked.name else [every]
    try:
        return [image for query in queries for image in page(connection, query, viewer(call))]
    except Unstorable:  # no image can be called so
        return []
