"""Tasks that administrators ask for. One of their types is of use: an image is made, and what is downloaded is its content.

As with Glance, the address is all that is looked at before the answer: what makes no sense to the task itself is a task that
failed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from cowherd.service.records.faults import ImageExists, QuotaExceeded
from cowherd.service.records.image import now
from cowherd.service.records.tasks import FAILURE, create_task
from cowherd.service.tasks import locating
from cowherd.service.tasks.addresses import Addresses
from cowherd.service.tasks.downloads import SOURCE, TYPE
from cowherd.service.tasks.runner import KEPT
from cowherd.service.web.audit import note
from cowherd.service.web.call import new_task
from cowherd.service.web.errors import BadRequest, Conflict, WebError
from cowherd.service.web.images.records import new_image, record_image
from cowherd.service.web.schemas.image import UUID_PATTERN
from cowherd.service.web.schemas.requests import NEW_TASK
from cowherd.service.web.schemas.validation import problems

if TYPE_CHECKING:
    from cowherd.service.records.tasks import Task
    from cowherd.service.web.call import Call


def begin_task(call: Call, document: Any) -> Task:
    """Records the task that a document asks for, and returns it as it is before anything is done.

    One that can't be done is recorded as failed, with the reason. Raises `BadRequest`, and `AddressRefused` for an address that
    may not be asked.
    """
    for problem in problems(document, NEW_TASK):
        raise BadRequest(f"Provided object does not match schema 'task': {problem}")
    task = _task(call, document["type"], document["input"])
    if task.type == TYPE:
        _check_source(call, task.input)
    try:
        return _begin(call, task)
    except (WebError, ImageExists, QuotaExceeded) as error:
        failed = msgspec.structs.replace(task, status=FAILURE, message=str(error), expires_at=now() + KEPT)
    with call.service.database.write() as connection:
        create_task(connection, failed)
        note(call, connection, "task.create", failed.image_id, task=failed.id, type=failed.type, reason=failed.message)
    return task


def _task(call: Call, kind: str, given: dict[str, Any]) -> Task:
    return new_task(call, kind, None if kind == TYPE else _named_image(given), given)


def _named_image(given: dict[str, Any]) -> str | None:
    """Returns the id of an image that an input names, None if it names none."""
    image_id = given.get("image_id")
    return image_id if isinstance(image_id, str) and re.fullmatch(UUID_PATTERN[1:-1], image_id) else None


def _check_source(call: Call, given: dict[str, Any]) -> None:
    url = given.get(SOURCE)
    if not isinstance(url, str):
        raise BadRequest(f"Input does not contain '{SOURCE}' field: the address of the content")
    Addresses(call.service.settings.import_allowed).check(url)


def _begin(call: Call, task: Task) -> Task:
    """Makes the image of a task, and records both. Raises as whoever makes an image by hand is told."""
    if task.type != TYPE:
        resource = "locations" if task.type == locating.TYPE else "import"
        raise BadRequest(f"Tasks of the type {task.type} are made by POST /v2/images/{{id}}/{resource} only.")
    image = new_image(call, _asked_for(task.input))
    for name in ("container_format", "disk_format"):
        if not getattr(image, name):
            raise Conflict(f"'{name}' needs to be set before import")
    with call.service.database.write() as connection:
        task = msgspec.structs.replace(task, image_id=record_image(call, connection, image).id)
        create_task(connection, task)
        note(call, connection, "image.import", image.id, method=TYPE, stores=[call.service.default_store])
    return task


def _asked_for(given: dict[str, Any]) -> dict[str, Any]:
    """Returns the document of the image that an input asks for; its formats are those of the source unless it says others."""
    for name in ("import_from_format", "image_properties"):
        if name not in given:
            raise BadRequest(f"Input does not contain '{name}' field")
    if not isinstance(given["image_properties"], dict):
        raise BadRequest("'image_properties' is a JSON object.")
    return {"disk_format": given["import_from_format"], "container_format": "bare", **given["image_properties"]}
