"""The cache of images: always empty, as every image lies on this host already. Who manages one is answered all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.service.web.access import require, require_image
from cowherd.service.web.call import document_answer, empty_answer
from cowherd.service.web.errors import BadRequest
from cowherd.service.web.routing import resource

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.routing import Route

    from cowherd.service.web.call import Call

_TARGETS = ("", "cache", "queue")


def show(call: Call) -> Response:
    """Shows what is cached, and what will be."""
    require(call, "cache_list")
    return document_answer({"cached_images": [], "queued_images": []})


def clear(call: Call) -> Response:
    """Empties the cache."""
    require(call, "cache_delete")
    if (call.header("x-image-cache-clear-target") or "").lower() not in _TARGETS:
        raise BadRequest("If 'x-image-cache-clear-target' header is specified, it must be one of: cache, queue.")
    return empty_answer()


def put(call: Call) -> Response:
    """Has an image cached."""
    require(call, "cache_image")
    with call.service.database.read() as connection:
        require_image(call, connection, "get_image")
    return empty_answer(202)


def delete(call: Call) -> Response:
    """Takes an image from the cache."""
    require(call, "cache_delete")
    with call.service.database.read() as connection:
        require_image(call, connection, "get_image")
    return empty_answer()


def show_nodes(call: Call) -> Response:
    """Shows the hosts that have an image cached."""
    require(call, "list_cached_nodes")
    return document_answer([])


def clean(call: Call) -> Response:
    """Removes what was not cached wholly."""
    require(call, "cache_clean")
    return empty_answer(200)


def prune(call: Call) -> Response:
    """Makes the cache as small as it should be."""
    require(call, "cache_prune")
    return document_answer({"total_files_pruned": 0, "total_bytes_pruned": 0})


ROUTES: list[Route] = [
    resource("/v2/cache", GET=show, DELETE=clear),
    resource("/v2/cache/clean", POST=clean),
    resource("/v2/cache/prune", POST=prune),
    resource("/v2/cache/{image_id}", DELETE=delete, PUT=put),
    resource("/v2/cache/nodes/{image_id}", GET=show_nodes),
]
