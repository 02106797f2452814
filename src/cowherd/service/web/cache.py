"""The cache of images. An image that lies on this host is as near as a cache could bring it: to have it cached, it is noted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cowherd.service.records.cached import add_cached, forget_cached, list_cached
from cowherd.service.records.states import ACTIVE
from cowherd.service.web.access import require, require_image
from cowherd.service.web.audit import note
from cowherd.service.web.call import document_answer, empty_answer
from cowherd.service.web.errors import BadRequest
from cowherd.service.web.operation import operation
from cowherd.service.web.routing import resource

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection
    from starlette.responses import Response
    from starlette.routing import Route

    from cowherd.service.records.image import Image
    from cowherd.service.web.call import Call

_CACHED, _QUEUED = "cached_images", "queued_images"
_TARGETS = {"": (_CACHED, _QUEUED), "cache": (_CACHED,), "queue": (_QUEUED,)}


@operation("cache_list", gives="cache")
def show(call: Call) -> Response:
    """Shows what is cached, and what waits for it."""
    return document_answer(_shown(call))


@operation("cache_list", gives="cached images")
def show_cached(call: Call) -> Response:
    """Shows what is cached, as older clients ask for it."""
    return document_answer({_CACHED: _shown(call)[_CACHED]})


@operation("cache_list", gives="queued images")
def show_queued(call: Call) -> Response:
    """Shows what waits for being cached, as older clients ask for it."""
    return document_answer({_QUEUED: _shown(call)[_QUEUED]})


@operation("cache_delete", headers={"x-image-cache-clear-target": "cache or queue; both if it is not said"})
def clear(call: Call) -> Response:
    """Empties the cache, the queue, or both."""
    require(call, "cache_delete")
    target = (call.header("x-image-cache-clear-target") or "").lower()
    if target not in _TARGETS:
        raise BadRequest("If 'x-image-cache-clear-target' header is specified, it must be one of: cache, queue.")
    with call.service.database.write() as connection:
        for image, _ in list_cached(connection):
            if _list_of(image) in _TARGETS[target]:
                _remove(call, connection, image)
    return empty_answer()


@operation("cache_image", "get_image", status=202, means={400: "the image is not active"})
def put(call: Call) -> Response:
    """Has an image cached."""
    require(call, "cache_image")
    with call.service.database.write() as connection:
        image = require_image(call, connection, "get_image")
        if image.status != ACTIVE:
            raise BadRequest("Only images with status active can be targeted for queueing")
        if add_cached(connection, image.id):
            note(call, connection, "cache.add", image.id)
    return empty_answer(202)


@operation("cache_delete", "get_image")
def delete(call: Call) -> Response:
    """Takes an image from the cache, and from the queue."""
    require(call, "cache_delete")
    with call.service.database.write() as connection:
        _remove(call, connection, require_image(call, connection, "get_image"))
    return empty_answer()


@operation("list_cached_nodes", gives="nodes")
def show_nodes(call: Call) -> Response:
    """Shows the hosts that have an image cached: none has an address of its own."""
    require(call, "list_cached_nodes")
    return document_answer([])


@operation("cache_clean", status=200)
def clean(call: Call) -> Response:
    """Removes what was not cached wholly."""
    require(call, "cache_clean")
    return empty_answer(200)


@operation("cache_prune", gives="pruned")
def prune(call: Call) -> Response:
    """Makes the cache as small as it should be."""
    require(call, "cache_prune")
    return document_answer({"total_files_pruned": 0, "total_bytes_pruned": 0})


def _remove(call: Call, connection: Connection, image: Image) -> None:
    if forget_cached(connection, image.id):
        note(call, connection, "cache.remove", image.id)


def _shown(call: Call) -> dict[str, list[Any]]:
    """Returns both lists; what waits is named by its ids only."""
    require(call, "cache_list")
    with call.service.database.read() as connection:
        found = list_cached(connection)
    return {
        _CACHED: [_document(image, at) for image, at in found if _list_of(image) == _CACHED],
        _QUEUED: [image.id for image, _ in found if _list_of(image) == _QUEUED],
    }


def _list_of(image: Image) -> str:
    """Returns which list an image stands in: one whose content lies at other addresses only is not here yet."""
    return _CACHED if image.blob is not None else _QUEUED


def _document(image: Image, at: datetime) -> dict[str, Any]:
    facts = {"image_id": image.id, "size": image.size, "checksum": image.checksum, "hits": 0}
    return {**facts, "last_accessed": at.timestamp(), "last_modified": at.timestamp()}


ROUTES: list[Route] = [
    resource("/v2/cached_images", GET=show_cached),
    resource("/v2/queued_images", GET=show_queued),
    resource("/v2/cache", GET=show, DELETE=clear),
    resource("/v2/cache/clean", POST=clean),
    resource("/v2/cache/prune", POST=prune),
    resource("/v2/cache/{image_id}", DELETE=delete, PUT=put),
    resource("/v2/cache/nodes/{image_id}", GET=show_nodes),
]
