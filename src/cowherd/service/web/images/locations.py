"""The addresses of an image's content: shown to other services, and added one by one, with or without its hash."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from cowherd.service.records.image import Location
from cowherd.service.records.images import change_status, update_image
from cowherd.service.records.states import IMPORTING, QUEUED
from cowherd.service.records.tasks import create_task
from cowherd.service.tasks.addresses import DEFAULT_PORTS, Addresses
from cowherd.service.tasks.locating import TYPE
from cowherd.service.web.access import require_image
from cowherd.service.web.audit import note
from cowherd.service.web.call import document_answer, empty_answer, new_task
from cowherd.service.web.errors import BadRequest, Conflict, Forbidden
from cowherd.service.web.images.document import locations_of
from cowherd.service.web.operation import operation
from cowherd.service.web.routing import resource
from cowherd.service.web.schemas.requests import NEW_LOCATION
from cowherd.service.web.schemas.validation import problems

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.routing import Route

    from cowherd.service.records.image import Image
    from cowherd.service.records.tasks import Task
    from cowherd.service.web.call import Call


@operation("fetch_image_location", gives="locations")
def show(call: Call) -> Response:
    """Shows the addresses of an image's content, to other services."""
    with call.service.database.read() as connection:
        image = require_image(call, connection, "fetch_image_location")
    return document_answer(locations_of(image, call.service.settings.http_store))


@operation(
    "get_image",
    "add_image_location",
    takes="new location",
    status=202,
    means={
        202: "a task reads the content",
        400: "the body makes no sense, or the address may not be asked",
        403: "no store reads such addresses, or the caller may see the image and not do this",
        409: "the image is not queued",
    },
)
def create(call: Call) -> Response:
    """Gives a queued image content that stays at an address on the web. The image is active once a task has read it."""
    document = call.document()
    for problem in problems(document, NEW_LOCATION):
        raise BadRequest(f"Provided object does not match schema 'location': {problem}")
    url, stated = document["url"], document.get("validation_data", {})
    if len(stated) == 1:  # nothing is stated by an empty one, too
        raise BadRequest("validation_data: os_hash_algo and os_hash_value are stated together")
    check_hash(stated)
    with call.service.database.write() as connection:
        image = require_image(call, connection, "get_image")
        require_image(call, connection, "add_image_location", image)
        _check_address(call, url)
        if image.status != QUEUED:
            raise Conflict(f"Image {image.id} is {image.status}; only a queued one is given a location.")
        update_image(connection, msgspec.structs.replace(image, locations=(Location(url),)))
        change_status(connection, image.id, {QUEUED}, IMPORTING)
        create_task(connection, _task(call, image, url, stated))
        note(call, connection, "location.add", image.id, url=url)
    call.service.runner.wake()
    return empty_answer(202)


def check_hash(facts: dict[str, Any]) -> None:
    """Raises `BadRequest` for an `os_hash_algo` that can't be computed, or an `os_hash_value` that can't be one of it."""
    algorithm, value = facts.get("os_hash_algo"), facts.get("os_hash_value", "")
    if algorithm is None:
        return
    if algorithm not in hashlib.algorithms_guaranteed or algorithm.startswith("shake"):
        raise BadRequest(f"os_hash_algo: {algorithm} is no hash that this service computes.")
    digits = hashlib.new(algorithm, usedforsecurity=False).digest_size * 2
    if len(value) != digits:
        raise BadRequest(f"os_hash_value: a hash of {algorithm} has {digits} hexadecimal digits, and not {len(value)}.")


def _check_address(call: Call, url: str) -> None:
    if not call.service.settings.http_store or url.partition(":")[0] not in DEFAULT_PORTS:
        raise Forbidden("Images can't have content there: no store of this service reads such addresses.")
    Addresses(call.service.settings.import_allowed).check(url)


def _task(call: Call, image: Image, url: str, stated: dict[str, Any]) -> Task:
    return new_task(call, TYPE, image.id, {"image_id": image.id, "url": url, "validation_data": stated})


ROUTES: list[Route] = [resource("/v2/images/{image_id}/locations", GET=show, POST=create)]
