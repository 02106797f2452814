"""The schemas of documents that only go out, and that the API itself gives no schema of."""

from __future__ import annotations

from typing import Any

from cowherd.service.web.schemas.others import TASK

_TEXT, _NUMBER = {"type": "string"}, {"type": "integer"}
_TEXT_OR_NULL, _NUMBER_OR_NULL = {"type": ["null", "string"]}, {"type": ["null", "integer"]}
_ANY = {"type": "object"}


def _object(properties: dict[str, Any], *optional: str) -> dict[str, Any]:
    """Returns the schema of an object with these properties and no others, of which some may be missing."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _list(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


ERROR = _object(
    {
        "message": {"type": "string", "description": "What is wrong, and what to do"},
        "code": {"type": "string", "description": "The status with its phrase, as in 404 Not Found"},
        "title": {"type": "string", "description": "The phrase"},
    }
)
VERSIONS = _object(
    {
        "versions": _list(
            _object(
                {
                    "id": {"type": "string", "description": "As in v2.18"},
                    "status": {"type": "string", "enum": ["CURRENT", "SUPPORTED"]},
                    "links": _list(_object({"rel": _TEXT, "href": _TEXT})),
                }
            )
        )
    }
)
HEALTH = _object({"detailed": {"type": "boolean"}, "reasons": _list(_TEXT)})
IMPORT_METHODS = _object({"import-methods": _object({"description": _TEXT, "type": _TEXT, "value": _list(_TEXT)})})
_STORE = {
    "id": {"type": "string", "description": "The name of the store"},
    "description": _TEXT,
    "default": {"type": "string", "description": '"true" of the store that uploads go to', "enum": ["true"]},
    "read-only": {"type": "string", "description": '"true" of a store of addresses on the web', "enum": ["true"]},
}
_DETAILS = {
    "type": {"type": "string", "enum": ["file", "http"]},
    "properties": {"type": "object", "description": "Where it is"},
    "weight": {"type": "integer", "description": "Of several stores, content is read from that with the highest"},
}
STORES = _object({"stores": _list(_object(_STORE, "default", "read-only"))})
STORES_IN_DETAIL = _object({"stores": _list(_object({**_STORE, **_DETAILS}, "default", "read-only"))})
USAGE = _object({"usage": _ANY})
_CACHED = _list(
    _object(
        {
            "image_id": _TEXT,
            "size": _NUMBER_OR_NULL,
            "checksum": _TEXT_OR_NULL,
            "hits": _NUMBER,
            "last_accessed": {"type": "number", "description": "In seconds since 1970"},
            "last_modified": {"type": "number", "description": "In seconds since 1970"},
        }
    )
)
_QUEUED = _list({"type": "string", "description": "The id of an image"})
CACHE = _object({"cached_images": _CACHED, "queued_images": _QUEUED})
CACHED_IMAGES = _object({"cached_images": _CACHED})
QUEUED_IMAGES = _object({"queued_images": _QUEUED})
NODES = _list(_TEXT)
PRUNED = _object({"total_files_pruned": _NUMBER, "total_bytes_pruned": _NUMBER})
LOCATIONS = _list(_object({"url": _TEXT, "metadata": _ANY}))
RESOURCE_TYPES = _object({"resource_types": _list(_object({"name": _TEXT, "created_at": _TEXT, "updated_at": _TEXT}))})
IMAGE_TASKS = _object(
    {
        "tasks": _list(
            _object(
                {
                    **{name: one for name, one in TASK["properties"].items() if name not in ("self", "schema")},
                    **dict.fromkeys(("owner", "user_id", "image_id", "request_id", "deleted_at"), _TEXT_OR_NULL),
                    "deleted": {"type": "boolean"},
                }
            )
        )
    }
)
_KIN = {
    "id": _TEXT,
    "name": _TEXT_OR_NULL,
    "status": _TEXT,
    "visibility": _TEXT,
    "size": _NUMBER_OR_NULL,
    "self": {"type": "string", "description": "The path of the image's record"},
}
LINEAGE = _object(
    {
        "id": _TEXT,
        "content": {
            "type": ["null", "string"],
            "description": "The digest of what a guest sees in the image, null if there is none",
        },
        "ancestors": {
            **_list(_object({"content": _TEXT, **_KIN}, *_KIN)),
            "description": "What the image stands on, the nearest first; only the digest of what the caller may not see",
        },
        "children": {**_list(_object(_KIN)), "description": "What stands on the image, or on its content"},
        "siblings": {**_list(_object(_KIN)), "description": "What stands on the same as the image does"},
        "hidden": {
            **_object({"children": _NUMBER, "siblings": _NUMBER}),
            "description": "How many there are that the caller may not see",
        },
    }
)
SCHEMA = {"type": "object", "description": "A JSON schema"}
