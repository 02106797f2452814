"""Carries the changes of a PATCH out on an image's record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from cowherd.service.policy.personas import Persona
from cowherd.service.web.access import PUBLISHING, require_image
from cowherd.service.web.errors import Conflict, Forbidden
from cowherd.service.web.images.relocating import LOCATIONS, with_locations
from cowherd.service.web.schemas.image import PROPERTIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

    from cowherd.service.records.image import Image
    from cowherd.service.web.call import Call
    from cowherd.service.web.images.changes import Change

_FORMATS = ("disk_format", "container_format")
_BEFORE_CONTENT = ("queued", "importing")


def apply_changes(call: Call, connection: Connection, image: Image, changes: Sequence[Change], sizes: Mapping[str, int]) -> Image:
    """Returns the image as the changes make it, one after the other. Records nothing.

    `sizes` gives how long the content is at the addresses that they add.

    Raises `Forbidden` for what the caller may not change, `Conflict` for a property that is not there, or is there already.
    """
    for change in changes:
        if change.name == LOCATIONS:
            image = with_locations(call, connection, image, change, sizes)
        else:
            _check_allowed(call, connection, image, change)
            image = _applied(image, change)
    return image


def _check_allowed(call: Call, connection: Connection, image: Image, change: Change) -> None:
    require_image(call, connection, "modify_image", image)
    if change.name == "owner" and not call.caller.has(Persona.ADMIN):
        raise Forbidden("Owner can't be updated by non admin.")
    if change.name == "visibility" and change.value in PUBLISHING:
        require_image(call, connection, PUBLISHING[change.value], image)
    if change.name in _FORMATS and image.status not in _BEFORE_CONTENT:
        raise Forbidden(f"Attribute {change.name} can be only replaced for a queued image.")


def _applied(image: Image, change: Change) -> Image:
    """Returns the image with one change."""
    base = change.name in PROPERTIES
    there = base or change.name in image.properties
    if change.operation == "remove":
        if base:
            raise Forbidden(f"Property {change.name} may not be removed.")
        if not there:
            raise Conflict(f"Property {change.name} does not exist.")
        kept = {name: value for name, value in image.properties.items() if name != change.name}
        return msgspec.structs.replace(image, properties=kept)
    if change.operation == "replace" and not there:
        raise Conflict(f"Property {change.name} does not exist.")
    if change.operation == "add" and there and not change.may_overwrite:
        raise Conflict(f"Property {change.name} already present.")
    return _with_value(image, change.name, change.value, base=base)


def _with_value(image: Image, name: str, value: Any, *, base: bool) -> Image:
    if not base:
        return msgspec.structs.replace(image, properties={**image.properties, name: value})
    return msgspec.structs.replace(image, **{name: tuple(sorted(set(value))) if name == "tags" else value})
