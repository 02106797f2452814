"""The schemas of the vocabulary: namespaces with the properties, objects, tags and resource types that they define."""

from __future__ import annotations

from typing import Any

from cowherd.service.web.schemas.image import collection

_KINDS_OF_VALUE = ["array", "boolean", "integer", "number", "object", "string", None]
_READ_ONLY_TEXT = {"type": "string", "readOnly": True}
_COUNT = {"$ref": "#/definitions/positiveInteger"}
_COUNT_OR_NONE = {"$ref": "#/definitions/positiveIntegerDefault0"}
_NAME = {"type": "string", "maxLength": 80}


def _text(description: str, characters: int | None = None) -> dict[str, Any]:
    bound = {"maxLength": characters} if characters else {}
    return {"type": "string", "description": description, **bound}


def _time(description: str) -> dict[str, Any]:
    return {"type": "string", "readOnly": True, "description": description, "format": "date-time"}


def _times(what: str) -> dict[str, Any]:
    return {"created_at": _time(f"When the {what} was made"), "updated_at": _time(f"When the {what} was last changed")}


_PROPERTY_PROPERTIES: dict[str, Any] = {
    "name": _NAME,
    "title": {"type": "string"},
    "description": {"type": "string"},
    "operators": {"type": "array", "items": {"type": "string"}},
    "type": {"type": "string", "enum": _KINDS_OF_VALUE},
    "required": {"$ref": "#/definitions/stringArray"},
    "minimum": {"type": "number"},
    "maximum": {"type": "number"},
    "maxLength": _COUNT,
    "minLength": _COUNT_OR_NONE,
    "pattern": {"type": "string", "format": "regex"},
    "enum": {"type": "array"},
    "readonly": {"type": "boolean"},
    "default": {},
    "items": {
        "type": "object",
        "properties": {"type": {"type": "string", "enum": _KINDS_OF_VALUE}, "enum": {"type": "array"}},
    },
    "maxItems": _COUNT,
    "minItems": _COUNT_OR_NONE,
    "uniqueItems": {"type": "boolean", "default": False},
    "additionalItems": {"type": "boolean"},
}
_NUMBERS = {
    "positiveInteger": {"type": "integer", "minimum": 0},
    "positiveIntegerDefault0": {"allOf": [_COUNT, {"default": 0}]},
}
_TEXTS = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
_DEFINITIONS: dict[str, Any] = {
    **_NUMBERS,
    "stringArray": _TEXTS,
    "property": {
        "type": "object",
        "additionalProperties": {"type": "object", "required": ["title", "type"], "properties": _PROPERTY_PROPERTIES},
    },
}


def _schema(
    name: str, properties: dict[str, Any], required: list[str], definitions: dict[str, Any] | None = None
) -> dict[str, Any]:
    defined = {"definitions": definitions} if definitions else {}
    return {"name": name, "properties": properties, "additionalProperties": False, **defined, "required": required}


_ASSOCIATION_PROPERTIES = {
    "name": _text("The kind of resource, as Heat calls it, as in OS::Nova::Server", 80),
    "prefix": _text("What the properties' names begin with when they are applied to this kind of resource, as in hw_", 80),
    "properties_target": _text("Which of a resource's several sets of properties is meant, as in image", 80),
    **_times("association"),
}
_OBJECT_WITHIN = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "description": {"type": "string"},
        "required": {"$ref": "#/definitions/stringArray"},
        "properties": {"$ref": "#/definitions/property"},
    },
}
NAMESPACE = _schema(
    "namespace",
    {
        "namespace": _text("What the namespace is known by", 80),
        "display_name": _text("What people call the namespace", 80),
        "description": _text("What the namespace is for", 500),
        "visibility": {"type": "string", "description": "Who may see the namespace", "enum": ["public", "private"]},
        "protected": {"type": "boolean", "description": "Whether the namespace can't be deleted"},
        "owner": _text("The project that the namespace belongs to", 255),
        **_times("namespace"),
        "schema": _READ_ONLY_TEXT,
        "self": _READ_ONLY_TEXT,
        "resource_type_associations": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {name: {"type": "string"} for name in ("name", "prefix", "properties_target")},
            },
        },
        "properties": {"$ref": "#/definitions/property"},
        "objects": {"type": "array", "items": _OBJECT_WITHIN},
        "tags": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
    },
    ["namespace"],
    _DEFINITIONS,
)
OBJECT = _schema(
    "object",
    {
        "name": _NAME,
        "description": {"type": "string"},
        "required": {"$ref": "#/definitions/stringArray"},
        "properties": {"$ref": "#/definitions/property"},
        "schema": _READ_ONLY_TEXT,
        "self": _READ_ONLY_TEXT,
        **_times("object"),
    },
    ["name"],
    _DEFINITIONS,
)
_PROPERTY_DEFINITIONS = {**_NUMBERS, "stringArray": {**_TEXTS, "minItems": 1}}
PROPERTY = _schema("property", _PROPERTY_PROPERTIES, ["type", "title", "name"], _PROPERTY_DEFINITIONS)
NAMELESS_PROPERTY = {**PROPERTY, "required": ["type", "title"]}
"""A property as it stands in an object, where its name is the key."""
RESOURCE_TYPE = _schema("resource_type_association", _ASSOCIATION_PROPERTIES, ["name"])
TAG = _schema("tag", {"name": _NAME, **_times("tag")}, ["name"])
TAG_LIST: dict[str, Any] = {
    "name": "tags",
    "properties": {
        "tags": {
            "type": "array",
            "items": {"type": "object", "properties": {"name": _NAME}, "required": ["name"], "additionalProperties": False},
        }
    },
    "additionalProperties": False,
}
"""The body that gives a namespace several tags at once."""


def _by_name(name: str, item: dict[str, Any]) -> dict[str, Any]:
    """Returns the schema of a page of things that have their names as keys."""
    page = collection(name, item)
    within = page["properties"][name]["items"]
    return {**page, "properties": {**page["properties"], name: {"type": "object", "additionalProperties": within}}}


SCHEMAS: dict[str, dict[str, Any]] = {
    "namespace": NAMESPACE,
    "namespaces": collection("namespaces", NAMESPACE),
    "resource_type": RESOURCE_TYPE,
    "resource_types": collection("resource_type_associations", RESOURCE_TYPE),
    "property": PROPERTY,
    "properties": _by_name("properties", NAMELESS_PROPERTY),
    "object": OBJECT,
    "objects": collection("objects", OBJECT),
    "tag": TAG,
    "tags": collection("tags", TAG),
}
"""The schemas by what follows /v2/schemas/metadefs/."""
