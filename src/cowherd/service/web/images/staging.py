"""Content that is staged first, and imported by a task when its import is asked for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.concurrency import run_in_threadpool

from cowherd.service.intake.staging import Staging
from cowherd.service.records.images import update_image
from cowherd.service.records.states import ACTIVE, QUEUED, UPLOADING
from cowherd.service.records.tasks import PENDING, PROCESSING, create_task, list_tasks
from cowherd.service.tasks.addresses import Addresses
from cowherd.service.tasks.imports import (
    COPY_IMAGE,
    FAILED_PROPERTY,
    GLANCE_DIRECT,
    GLANCE_DOWNLOAD,
    LEFT_PROPERTY,
    TASK_PROPERTY,
    TOKEN,
    TYPE,
    WEB_DOWNLOAD,
)
from cowherd.service.web.access import require_image
from cowherd.service.web.audit import note
from cowherd.service.web.call import empty_answer, new_task
from cowherd.service.web.errors import BadRequest, Conflict, NotFound
from cowherd.service.web.images.upload import STORE_HEADER, UPLOAD_HEADERS, announced_bytes, intake_of, receive, require_content
from cowherd.service.web.operation import BYTES, operation
from cowherd.service.web.routing import resource
from cowherd.service.web.schemas.image import UUID_PATTERN

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.routing import Route

    from cowherd.service.records.image import Image
    from cowherd.service.records.tasks import Task
    from cowherd.service.web.call import Call


@operation(
    "modify_image",
    takes={BYTES: None},
    headers=UPLOAD_HEADERS,
    means={
        400: "another length than was announced came, or an unknown store",
        404: "there is no such image, the caller may not see it, or glance-direct is not offered",
        409: "the image is not queued",
        410: "the image was deleted during the upload",
        413: "the content is larger than is allowed, than the quota, or than the room in the store",
        415: "the body is not application/octet-stream",
    },
)
async def stage(call: Call) -> Response:
    """Takes the content of a queued image, to be imported later."""
    if GLANCE_DIRECT not in call.service.settings.import_methods:
        raise NotFound("'glance-direct' method is not available at this site.")
    require_content(call)
    length = announced_bytes(call)
    await receive(call, await run_in_threadpool(_begin, call, length))
    return empty_answer()


def _begin(call: Call, length: int | None) -> Staging:
    with call.service.database.read() as connection:
        image = require_image(call, connection, "modify_image")
    return Staging.begin(intake_of(call), image, length)


@operation(
    "get_image",
    "modify_image",
    "copy_image",
    takes="import",
    status=202,
    headers={STORE_HEADER: "the store, where the body names none"},
    means={
        202: "a task does the rest: GET /v2/images/{image_id}/tasks tells of it",
        400: "the body makes no sense, the address may not be asked, or a store has the content already",
        409: "the image is in another state, an import is under way, or there is no such store",
    },
)
def begin_import(call: Call) -> Response:
    """Starts the import of what was staged, or a copy to more stores, and answers before it has begun."""
    document = call.document()
    method = _method(call, document)
    with call.service.database.write() as connection:
        image = require_image(call, connection, "get_image")
        _check_state(image, method)
        require_image(call, connection, "copy_image" if method == COPY_IMAGE else "modify_image", image)
        stores = _targets(call, document, image, method)
        if method == WEB_DOWNLOAD:
            _check_uri(call, document)
        if method == GLANCE_DOWNLOAD:
            _check_remote(document["method"])
        under_way = [list_tasks(connection, image_id=image.id, status=status, limit=1) for status in (PENDING, PROCESSING)]
        if any(under_way):
            raise Conflict(f"New operation on image '{image.id}' is not permitted as prior operation is still in progress")
        if stores:
            task = _task(call, image, document, stores)
            create_task(connection, task)
            note(call, connection, "image.import", image.id, method=method, stores=stores)
            told = {TASK_PROPERTY: task.id, LEFT_PROPERTY: ",".join(stores), FAILED_PROPERTY: ""}
            update_image(connection, msgspec.structs.replace(image, properties={**image.properties, **told}))
    call.service.runner.wake()
    return empty_answer(202)


def _method(call: Call, document: Any) -> str:
    """Returns the name of the way to import. Raises `BadRequest` if the body names none that is offered."""
    method = document.get("method") if isinstance(document, dict) else None
    name = method.get("name") if isinstance(method, dict) else None
    if name not in call.service.settings.import_methods:
        raise BadRequest(f"Unknown import method name '{name}'.")
    for option in ("all_stores", "all_stores_must_succeed"):
        if not isinstance(document.get(option, False), bool):
            raise BadRequest(f"'{option}' must be boolean value only")
    return str(name)


def _check_state(image: Image, method: str) -> None:
    if method == COPY_IMAGE and image.status != ACTIVE:
        raise Conflict("Only images with status active can be targeted for copying")
    if method != COPY_IMAGE and image.status == ACTIVE:
        raise Conflict("Image with status active cannot be target for import")
    if method == GLANCE_DIRECT and image.status != UPLOADING:
        raise Conflict("Image needs to be staged before 'glance-direct' method can be used")
    if method in (WEB_DOWNLOAD, GLANCE_DOWNLOAD) and image.status != QUEUED:
        raise Conflict(f"Image needs to be in 'queued' state to use '{method}' method")
    if method == GLANCE_DOWNLOAD:  # which takes the formats over from the other image
        return
    for name in ("container_format", "disk_format"):
        if not getattr(image, name):
            raise Conflict(f"'{name}' needs to be set before import")


def _check_uri(call: Call, document: dict[str, Any]) -> None:
    uri = document["method"].get("uri")
    if not isinstance(uri, str):
        raise BadRequest("URI for web-download is not given")
    Addresses(call.service.settings.import_allowed).check(uri)


def _check_remote(method: dict[str, Any]) -> None:
    if not re.fullmatch(UUID_PATTERN[1:-1], str(method.get("glance_image_id"))):
        raise BadRequest("Invalid glance-download request: image id does not look like a UUID")
    if not isinstance(method.get("glance_region"), str):
        raise BadRequest("Invalid glance-download request: 'glance_region' is not given")
    if not isinstance(method.get("glance_service_interface", "public"), str):
        raise BadRequest("Invalid glance-download request: 'glance_service_interface' is no text")


def _targets(call: Call, document: dict[str, Any], image: Image, method: str) -> list[str]:
    """Returns the stores that are to have the content. Raises `Conflict` for stores that there are not."""
    known = call.service.stores
    asked = document.get("stores")
    if document.get("all_stores"):
        if asked is not None:
            raise BadRequest("All_stores parameter can't be used with x-image-meta-store header or stores parameter")
        return [name for name in known if method != COPY_IMAGE or name not in image.stores]
    stores = asked or [call.header(STORE_HEADER) or call.service.default_store]
    if not isinstance(stores, list) or not stores or not all(isinstance(name, str) and name in known for name in stores):
        raise Conflict(f"The stores are to be some of these: {', '.join(known)}")
    if method == COPY_IMAGE and any(name in image.stores for name in stores):
        raise BadRequest("Image is already present at one of these stores")
    return list(dict.fromkeys(stores))


def _task(call: Call, image: Image, document: dict[str, Any], stores: list[str]) -> Task:
    progress = {TOKEN: call.header("x-auth-token")} if document["method"]["name"] == GLANCE_DOWNLOAD else {}
    return new_task(call, TYPE, image.id, {"image_id": image.id, "import_req": document, "backend": stores}, progress)


ROUTES: list[Route] = [
    resource("/v2/images/{image_id}/stage", PUT=stage),
    resource("/v2/images/{image_id}/import", POST=begin_import),
]
