"""The tags of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cowherd.service.records.images import update_image
from cowherd.service.web.access import require_image
from cowherd.service.web.audit import note
from cowherd.service.web.call import empty_answer
from cowherd.service.web.errors import NotFound
from cowherd.service.web.images.properties import check_values
from cowherd.service.web.images.records import check_quotas
from cowherd.service.web.operation import operation
from cowherd.service.web.routing import resource

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.routing import Route

    from cowherd.service.web.call import Call


@operation("modify_image", means={400: "the tag is longer than 255 characters", 413: "the image has as many tags as are allowed"})
def put(call: Call) -> Response:
    """Gives an image a tag."""
    tag = call.names["tag"]
    check_values({"tags": [tag]})
    with call.service.database.write() as connection:
        image = require_image(call, connection, "modify_image")
        if tag not in image.tags:
            image = msgspec.structs.replace(image, tags=(*image.tags, tag))
            check_quotas(call.service.settings, image)
            update_image(connection, image)
            note(call, connection, "image.tag", image.id, tag=tag)
    return empty_answer()


@operation("modify_image", means={404: "there is no such image or tag, or the caller may not see it"})
def delete(call: Call) -> Response:
    """Takes a tag from an image."""
    tag = call.names["tag"]
    with call.service.database.write() as connection:
        image = require_image(call, connection, "modify_image")
        if tag not in image.tags:
            raise NotFound(f"Image {image.id} has no tag {tag}.")
        update_image(connection, msgspec.structs.replace(image, tags=tuple(one for one in image.tags if one != tag)))
        note(call, connection, "image.untag", image.id, tag=tag)
    return empty_answer()


ROUTES: list[Route] = [resource("/v2/images/{image_id}/tags/{tag}", PUT=put, DELETE=delete)]
