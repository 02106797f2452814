"""The changes that a PATCH asks for, in either of its two media types."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from cowherd.service.web.errors import BadRequest, Forbidden, UnsupportedMedia
from cowherd.service.web.images.properties import READ_ONLY, check_name, check_values
from cowherd.service.web.schemas.image import PROPERTIES

OPERATIONS = ("add", "remove", "replace")
OLDER = "application/openstack-images-v2.0-json-patch"
NEWER = "application/openstack-images-v2.1-json-patch"
_MOST_CHANGES = 10_000


class Change(NamedTuple):
    """One change: `operation` on the property `name`; `rest` is what follows the name in the path, for locations."""

    operation: str
    name: str
    rest: str | None
    value: Any
    may_overwrite: bool
    """Whether `add` replaces what is there, as it does in the newer media type."""


def parse_changes(content_type: str, document_of: Any) -> list[Change]:
    """Returns the changes. `document_of` gives the body as JSON, and is not called for a media type that is not taken.

    Raises `UnsupportedMedia`, `BadRequest`, and `Forbidden` for properties that nobody may change.
    """
    media = content_type.partition(";")[0].strip()
    if media not in (OLDER, NEWER):
        allowed = f"{OLDER}, {NEWER}"
        raise UnsupportedMedia(f"Image PATCH expects Content-Type one of: {allowed}", {"Accept-Patch": allowed})
    document = document_of()
    if not isinstance(document, list):
        raise BadRequest("Request body must be a JSON array of operation objects.")
    if len(document) > _MOST_CHANGES:
        raise BadRequest(f"Request body has more than {_MOST_CHANGES} operations.")
    return [_parse_change(raw, newer=media == NEWER) for raw in document]


def _parse_change(raw: Any, *, newer: bool) -> Change:
    if not isinstance(raw, dict):
        raise BadRequest("Operations must be JSON objects.")
    operation, pointer = _parse_newer(raw) if newer else _parse_older(raw)
    name, rest = _split_pointer(operation, pointer)
    if operation != "remove" and "value" not in raw:
        raise BadRequest(f'Operation "{operation}" requires a member named "value".')
    change = Change(operation, name, rest, raw.get("value"), newer)
    _check(change)
    return change


def _parse_newer(raw: dict[str, Any]) -> tuple[str, Any]:
    operation = raw.get("op")
    available = f"It must be one of the following: {', '.join(OPERATIONS)}."
    if operation is None:
        raise BadRequest(f"Unable to find `op` in JSON Schema change. {available}")
    if operation not in OPERATIONS:
        raise BadRequest(f"Invalid operation: `{operation}`. {available}")
    if "path" not in raw:
        raise BadRequest("Unable to find 'path' in JSON Schema change")
    return operation, raw["path"]


def _parse_older(raw: dict[str, Any]) -> tuple[str, Any]:
    found = [operation for operation in OPERATIONS if operation in raw]
    if len(found) != 1:
        raise BadRequest('Operation objects must contain exactly one member named "add", "remove", or "replace".')
    return found[0], raw[found[0]]


def _split_pointer(operation: str, pointer: Any) -> tuple[str, str | None]:
    """Splits a JSON pointer into the property's name and what follows it. Only an item of `locations` may follow."""
    if not isinstance(pointer, str) or not pointer.startswith("/"):
        raise BadRequest(f'Pointer `{pointer}` does not start with "/".')
    if re.search(r"/\s*?/", pointer[1:]) or (len(pointer) > 1 and pointer.endswith("/")):
        raise BadRequest(f"Pointer `{pointer}` has an empty part.")
    if re.search("~[^01]", pointer) or pointer.endswith("~"):
        raise BadRequest(f'Pointer `{pointer}` contains "~" not part of a recognized escape sequence.')
    parts = [part.replace("~1", "/").replace("~0", "~").strip() for part in pointer.lstrip("/").split("/")]
    depth = 2 if parts[0] == "locations" and operation != "replace" else 1
    if len(parts) != depth:
        raise BadRequest(f"Invalid JSON pointer for this resource: '/{'/'.join(parts)}'")
    return parts[0], parts[1] if depth == 2 else None


def _check(change: Change) -> None:
    if change.name in READ_ONLY or change.name == "id":
        raise Forbidden(f"Attribute '{change.name}' is read-only.")
    check_name(change.name)
    if change.operation != "remove":
        value = [change.value] if change.rest is not None and PROPERTIES[change.name]["type"] == "array" else change.value
        check_values({change.name: value})
