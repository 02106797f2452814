"""Asks the policy whether a caller may do something, and turns its verdict into an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.service.policy.personas import Persona
from cowherd.service.policy.rules import Verdict, may
from cowherd.service.records.images import read_image
from cowherd.service.records.members import member_status
from cowherd.service.records.pages import Viewer
from cowherd.service.web.errors import Forbidden, NotFound

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from cowherd.service.records.image import Image
    from cowherd.service.web.call import Call

PUBLISHING = {"public": "publicize_image", "community": "communitize_image"}
"""The action that makes an image visible to so many."""
_MOST_ID_CHARACTERS = 36


def require_image(call: Call, connection: Connection, action: str, image: Image | None = None) -> Image:
    """Returns the image that the path names (or `image`) if the caller may do `action` with it.

    Raises `NotFound` if there is none, or the caller may not know of it; `Forbidden` otherwise.
    """
    image_id = call.names.get("image_id", "")
    if image is None and (len(image_id) > _MOST_ID_CHARACTERS or "\0" in image_id):
        raise NotFound("No image found with such an ID")
    image = image or read_image(connection, image_id)
    lent = member_status(connection, image.id, call.caller.project) is not None
    verdict = may(action, call.caller, image, lent=lent)
    if verdict is Verdict.HIDDEN:
        raise NotFound(f"No image found with ID {image.id}")
    if verdict is Verdict.NO:
        raise Forbidden(f"You are not authorized to complete {action} action.")
    return image


def require_for_new(call: Call, image: Image) -> None:
    """Raises `Forbidden` if the caller may not make such an image."""
    actions = ("add_image", PUBLISHING[image.visibility]) if image.visibility in PUBLISHING else ("add_image",)
    for action in actions:
        if may(action, call.caller, image) is not Verdict.YES:
            raise Forbidden(f"You are not authorized to complete {action} action.")


def require(call: Call, action: str) -> None:
    """Raises `Forbidden` if the caller may not do `action`, which is done with no thing."""
    if may(action, call.caller) is not Verdict.YES:
        raise Forbidden(f"You are not authorized to complete {action} action.")


def viewer(call: Call) -> Viewer:
    """Returns for whom a page of images is made."""
    return Viewer(call.caller.project, everything=call.caller.has(Persona.ADMIN))


def sees_own(call: Call, image: Image) -> bool:
    """Tells whether an image is the caller's own: what concerns nobody else is told then."""
    return call.caller.has(Persona.ADMIN) or (image.owner is not None and image.owner == call.caller.project)
