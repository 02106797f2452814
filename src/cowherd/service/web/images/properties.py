"""Which properties of an image a client may set, and what a new image may be."""

from __future__ import annotations

from typing import Any

from cowherd.service.web.errors import BadRequest, Forbidden
from cowherd.service.web.schemas.image import PROPERTIES, TAKEN
from cowherd.service.web.schemas.validation import problems

RESERVED = frozenset(("location", "deleted", "deleted_at"))
RESERVED_PREFIXES = ("os_glance_", "cowherd_")
READ_ONLY = frozenset(name for name, schema in PROPERTIES.items() if schema.get("readOnly"))
SETTABLE = frozenset(PROPERTIES) - READ_ONLY - {"locations"}
"""The base properties that a new image may come with."""
MOST_KEY_CHARACTERS = 255
_NEVER_TAKEN = frozenset(("direct_url", "self", "file", "schema", "stores"))


def check_values(values: dict[str, Any]) -> None:
    """Raises `BadRequest` for the first property that is not as its schema says."""
    for problem in problems(values, TAKEN):
        raise BadRequest(f"Provided object does not match schema 'image': {problem}")


def check_name(name: str) -> None:
    """Raises `Forbidden` for the name of a property that is the service's own."""
    if name in RESERVED or name.startswith(RESERVED_PREFIXES):
        raise Forbidden(f"Attribute '{name}' is reserved.")


def new_image_values(document: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the base properties and the other properties that a document gives a new image.

    Raises `Forbidden` for what is read-only or reserved, `BadRequest` for what the schema does not allow.
    """
    if not isinstance(document, dict):
        raise BadRequest("Provided object does not match schema 'image': an image is a JSON object.")
    for name in _NEVER_TAKEN & document.keys():
        raise Forbidden(f"Attribute '{name}' is read-only.")
    check_values(document)
    for name in (READ_ONLY | {"locations"}) & document.keys():
        raise Forbidden(f"Attribute '{name}' is read-only.")
    others = {name: value for name, value in document.items() if name not in SETTABLE}
    for name in others:
        if len(name) > MOST_KEY_CHARACTERS:
            raise BadRequest(f"Custom property should not be greater than {MOST_KEY_CHARACTERS} characters.")
        check_name(name)
    return {name: value for name, value in document.items() if name in SETTABLE}, others
