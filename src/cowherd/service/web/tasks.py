"""Tasks: work that goes on after its request was answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cowherd.service.records.faults import TaskNotFound
from cowherd.service.records.tasks import FAILURE, MESSAGE, PENDING, PROCESSING, SUCCESS, Task, list_tasks, read_task
from cowherd.service.web.access import require, require_image
from cowherd.service.web.call import document_answer
from cowherd.service.web.documents import time_text
from cowherd.service.web.errors import BadRequest, MethodNotAllowed
from cowherd.service.web.images.listing import links
from cowherd.service.web.metadefs.common import descends, limit_of
from cowherd.service.web.new_tasks import begin_task
from cowherd.service.web.operation import operation
from cowherd.service.web.routing import resource, untold_resource
from cowherd.service.web.schemas.others import TASK
from cowherd.service.web.versions import base_url

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.routing import Route

    from cowherd.service.web.call import Call

TYPES = tuple(TASK["properties"]["type"]["enum"])
_STATUSES = (PENDING, PROCESSING, SUCCESS, FAILURE)
_SORT_KEYS = ("created_at",)
_PATH = "/v2/tasks"


@operation(
    "tasks_api_access",
    gives="tasks",
    query={
        "limit": "how many",
        "marker": "the task after which the page begins",
        "type": "of this type",
        "status": "at this state",
        "owner": "of this project",
        "sort_key": "created_at",
        "sort_dir": "asc or desc",
    },
)
def index(call: Call) -> Response:
    """Shows a page of tasks, the latest first."""
    require(call, "tasks_api_access")
    settings, parameters = call.service.settings, dict(call.query)
    limit = min(limit_of(parameters, settings.limit_param_default) or 0, settings.api_limit_max)
    descends(parameters)
    for name, allowed in (("type", TYPES), ("status", _STATUSES), ("sort_key", _SORT_KEYS)):
        if name in parameters and parameters[name] not in allowed:
            raise BadRequest(f"Invalid {name}: {parameters[name]}. It must be one of the following: {', '.join(allowed)}.")
    facts = {name: parameters[name] for name in ("type", "status", "owner", "marker") if name in parameters}
    with call.service.database.read() as connection:
        try:
            found = list_tasks(connection, **facts, limit=limit)
        except TaskNotFound as error:
            raise BadRequest(str(error)) from error
    after = found[-1].id if found and len(found) == limit else None
    stubs = [_stub(task) for task in found]
    return document_answer({"tasks": stubs, **links(_PATH, call.query, after), "schema": "/v2/schemas/tasks"})


@operation("tasks_api_access", gives="task", means={404: "there is no such task"})
def show(call: Call) -> Response:
    """Shows one task."""
    require(call, "tasks_api_access")
    with call.service.database.read() as connection:
        task = read_task(connection, call.names["task"])
    return document_answer(_shown(task))


@operation(
    "tasks_api_access",
    takes="new task",
    gives="task",
    status=201,
    means={
        201: "the task does the rest: it makes an image of what it downloads, or fails and says why",
        400: "the body makes no sense, or the address may not be asked",
    },
    sent={"Location": "the address of the task"},
)
def create(call: Call) -> Response:
    """Makes an image of what a task downloads, which is the older way to import. Tasks of other types fail."""
    require(call, "tasks_api_access")
    task = begin_task(call, call.document())
    call.service.runner.wake()
    return document_answer(_shown(task), 201, {"Location": f"{base_url(call)}{_PATH}/{task.id}"})


@operation("tasks_api_access", status=405, means={405: "the record of a task goes by itself"})
def delete(call: Call) -> Response:
    """Refuses the deletion of a task: its record goes by itself, some time after its end."""
    require(call, "tasks_api_access")
    raise MethodNotAllowed("The method DELETE is not allowed for this resource.", {"Allow": "GET"})


@operation("get_image", gives="tasks of an image")
def index_of_image(call: Call) -> Response:
    """Shows the tasks that worked on an image."""
    with call.service.database.read() as connection:
        image = require_image(call, connection, "get_image")
        found = list_tasks(connection, image_id=image.id)
    return document_answer({"tasks": [_whole(task) for task in found]})


def _message(task: Task) -> str:
    """Returns why a task failed, or what it is doing."""
    return task.message or str(task.progress.get(MESSAGE, ""))


def _stub(task: Task) -> dict[str, Any]:
    expires = {"expires_at": time_text(task.expires_at)} if task.expires_at else {}
    return {
        "id": task.id,
        "type": task.type,
        "status": task.status,
        "owner": task.owner,
        "created_at": time_text(task.created_at),
        "updated_at": time_text(task.updated_at),
        **expires,
        "self": f"{_PATH}/{task.id}",
        "schema": "/v2/schemas/task",
    }


def _shown(task: Task) -> dict[str, Any]:
    return {**_stub(task), **_started_by(task), "input": task.input, "result": task.result, "message": _message(task)}


def _started_by(task: Task) -> dict[str, Any]:
    facts = {"image_id": task.image_id, "request_id": task.request_id, "user_id": task.user_id}
    return {name: value for name, value in facts.items() if value}


def _whole(task: Task) -> dict[str, Any]:
    """Returns a task as the list of an image's tasks has it, which Glance writes in another form than the others."""
    return {
        "id": task.id,
        "type": task.type,
        "status": task.status,
        "owner": task.owner,
        "expires_at": time_text(task.expires_at) if task.expires_at else None,
        "created_at": time_text(task.created_at),
        "updated_at": time_text(task.updated_at),
        "deleted_at": None,
        "deleted": False,
        "image_id": task.image_id,
        "request_id": task.request_id,
        "user_id": task.user_id,
        "input": task.input,
        "result": task.result,
        "message": _message(task),
    }


ROUTES: list[Route] = [
    resource(_PATH, GET=index, POST=create),
    resource(_PATH + "/{task}", GET=show, DELETE=delete),
    untold_resource("/v2/images/{image_id}/tasks", GET=index_of_image),
]
