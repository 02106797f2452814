"""The addresses of an image's content."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.service.web.access import require_image
from cowherd.service.web.call import document_answer
from cowherd.service.web.images.document import locations_of
from cowherd.service.web.routing import resource

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.routing import Route

    from cowherd.service.web.call import Call


def show(call: Call) -> Response:
    """Shows the addresses of an image's content, to other services."""
    with call.service.database.read() as connection:
        image = require_image(call, connection, "fetch_image_location")
    return document_answer(locations_of(image))


ROUTES: list[Route] = [resource("/v2/images/{image_id}/locations", GET=show)]
