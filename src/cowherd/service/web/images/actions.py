"""Taking an image out of use, and back into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.service.records.images import change_status
from cowherd.service.records.states import ACTIVE, DEACTIVATED
from cowherd.service.web.access import require_image
from cowherd.service.web.audit import note
from cowherd.service.web.call import empty_answer
from cowherd.service.web.errors import Forbidden
from cowherd.service.web.operation import operation
from cowherd.service.web.routing import resource

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.routing import Route

    from cowherd.service.web.call import Call


@operation("deactivate", means={403: "the image is in another state, or the caller may see it and not do this"})
def deactivate(call: Call) -> Response:
    """Lets nobody but administrators download an image."""
    return _change(call, "deactivate", ACTIVE, DEACTIVATED)


@operation("reactivate", means={403: "the image is in another state, or the caller may see it and not do this"})
def reactivate(call: Call) -> Response:
    """Lets an image be downloaded again."""
    return _change(call, "reactivate", DEACTIVATED, ACTIVE)


def _change(call: Call, action: str, source: str, target: str) -> Response:
    with call.service.database.write() as connection:
        image = require_image(call, connection, action)
        if image.status not in (source, target):
            raise Forbidden(f"Not allowed to {action} image in status '{image.status}'")
        if image.status == source:
            change_status(connection, image.id, {source}, target)
            note(call, connection, f"image.{action}", image.id)
    return empty_answer()


ROUTES: list[Route] = [
    resource("/v2/images/{image_id}/actions/deactivate", POST=deactivate),
    resource("/v2/images/{image_id}/actions/reactivate", POST=reactivate),
]
