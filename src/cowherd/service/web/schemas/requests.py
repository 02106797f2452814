"""The schemas of documents that only come in."""

from __future__ import annotations

from typing import Any

from cowherd.service.web.schemas.image import TAKEN
from cowherd.service.web.schemas.others import TASK

_POINTER = {
    "type": "string",
    "description": "A JSON pointer to a property, as in /name; of locations also /locations/0 or /locations/-",
}
_OPERATIONS = ["add", "remove", "replace"]

NEW_IMAGE: dict[str, Any] = {
    **TAKEN,
    "type": "object",
    "properties": {name: one for name, one in TAKEN["properties"].items() if not one.get("readOnly") and name != "locations"},
}
"""What a new image may come with."""
CHANGES: dict[str, Any] = {
    "type": "array",
    "description": "Changes, made one after the other, all or none",
    "items": {
        "type": "object",
        "required": ["op", "path"],
        "properties": {"op": {"type": "string", "enum": _OPERATIONS}, "path": _POINTER, "value": {}},
    },
}
OLDER_CHANGES: dict[str, Any] = {
    "type": "array",
    "description": "Changes as version 2.0 has them: exactly one of the operations, with a pointer; add never overwrites",
    "items": {"type": "object", "properties": {**dict.fromkeys(_OPERATIONS, _POINTER), "value": {}}},
}
NEW_MEMBER: dict[str, Any] = {
    "type": "object",
    "required": ["member"],
    "properties": {"member": {"type": "string", "minLength": 1, "maxLength": 255, "description": "A project"}},
}
NEW_STATUS: dict[str, Any] = {
    "type": "object",
    "required": ["status"],
    "properties": {
        "status": {"type": "string", "description": "What the project answers", "enum": ["pending", "accepted", "rejected"]}
    },
}
NEW_LOCATION: dict[str, Any] = {
    "type": "object",
    "required": ["url"],
    "properties": {
        "url": {"type": "string", "maxLength": 255, "description": "Where the content stays"},
        "validation_data": {
            "type": "object",
            "description": "The hash that the content must have; both or none",
            "additionalProperties": False,
            "properties": {"os_hash_algo": {"type": "string"}, "os_hash_value": {"type": "string"}},
        },
    },
}
NEW_TASK: dict[str, Any] = {
    "name": "task",
    "type": "object",
    "required": ["type", "input"],
    "additionalProperties": False,
    "properties": {  # a whole task may be sent, of which the rest is not read
        **TASK["properties"],
        "type": {"type": "string", "enum": ["import", "api_image_import", "location_import"]},
        "input": {
            "type": "object",
            "properties": {
                "import_from": {"description": "Of import: where the content is"},
                "import_from_format": {"description": "Of import: the disk_format, where the properties say none"},
                "image_properties": {"description": "Of import: the new image, as POST /v2/images takes it"},
            },
        },
    },
}
IMPORT: dict[str, Any] = {
    "type": "object",
    "required": ["method"],
    "properties": {
        "method": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "description": "One of GET /v2/info/import"},
                "uri": {"type": "string", "description": "Of web-download: where the content is"},
                "glance_image_id": {"type": "string", "description": "Of glance-download: the image there"},
                "glance_region": {"type": "string", "description": "Of glance-download: where it is"},
                "glance_service_interface": {"type": "string", "description": "Of glance-download: public if it is not said"},
            },
        },
        "stores": {"type": "array", "items": {"type": "string"}, "description": "The stores that are to have the content"},
        "all_stores": {"type": "boolean", "description": "Whether all stores are to have it"},
        "all_stores_must_succeed": {"type": "boolean", "description": "Whether a store that fails ends the import"},
    },
}
