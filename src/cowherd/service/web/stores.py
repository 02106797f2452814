"""The content of images in one of several stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.service.records.blobs import WHOLE
from cowherd.service.records.places import forget_place, places_of
from cowherd.service.web.access import require_image
from cowherd.service.web.audit import note
from cowherd.service.web.call import empty_answer
from cowherd.service.web.errors import Conflict, Forbidden, NotFound
from cowherd.service.web.operation import operation
from cowherd.service.web.routing import resource

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.routing import Route

    from cowherd.service.web.call import Call


@operation(
    "delete_image_location",
    means={
        403: "no other store has the content whole, or the caller may see the image and not do this",
        404: "the store does not have the content, there is no such image, or the caller may not see it",
        409: "there is no such store, or the image has no content",
    },
)
def delete(call: Call) -> Response:
    """Deletes the content of an image from a store, if another store has it whole. Images with the same content share it."""
    name = call.names["store"]
    with call.service.database.read() as connection:
        image = require_image(call, connection, "delete_image_location")
    store = call.service.stores.get(name)
    if store is None or image.blob is None:
        raise Conflict(f"There is no store '{name}', or image {image.id} has no content.")
    with store.locked(image.blob):
        with call.service.database.write() as connection:
            whole = [one.store for one in places_of(connection, image.blob) if one.state == WHOLE and one.store != name]
            if name in image.stores and not any(other in call.service.stores for other in whole):
                raise Forbidden(f"Image {image.id} is whole in no other store than {name}. Please delete the image instead.")
            if not forget_place(connection, image.blob, name):
                raise NotFound(f"Image {image.id} is not stored on {name}.")
            note(call, connection, "store.delete", image.id, store=name, blob=image.blob)
        store.remove(image.blob)
    return empty_answer()


ROUTES: list[Route] = [resource("/v2/stores/{store}/{image_id}", DELETE=delete)]
