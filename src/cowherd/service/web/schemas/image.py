"""The schema of an image, and of a page of images."""

from __future__ import annotations

from typing import Any

DISK_FORMATS = ("ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop")
CONTAINER_FORMATS = ("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed")
STATUSES = ("queued", "saving", "active", "killed", "deleted", "uploading", "importing", "pending_delete", "deactivated")
VISIBILITIES = ("community", "public", "private", "shared")
UUID_PATTERN = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


def _text_or_null(description: str, **more: Any) -> dict[str, Any]:
    return {"type": ["null", "string"], "description": description, **more}


_VALIDATION_DATA = {
    "type": "object",
    "description": "Hashes that the image gets, or must have if it has any already",
    "writeOnly": True,
    "additionalProperties": False,
    "properties": {
        "checksum": {"type": "string", "minLength": 32, "maxLength": 32},
        "os_hash_algo": {"type": "string", "maxLength": 64},
        "os_hash_value": {"type": "string", "maxLength": 128},
    },
    "required": ["os_hash_algo", "os_hash_value"],
}
_LOCATION = {
    "type": "object",
    "properties": {
        "url": {"type": "string", "maxLength": 255},
        "metadata": {"type": "object"},
        "validation_data": _VALIDATION_DATA,
    },
    "required": ["url", "metadata"],
}
PROPERTIES: dict[str, dict[str, Any]] = {
    "id": _text("What the image is known by", pattern=UUID_PATTERN),
    "name": _text_or_null("What people call the image", maxLength=255),
    "status": _text("What the image is at", readOnly=True, enum=[*STATUSES]),
    "visibility": _text("Who may see the image", enum=[*VISIBILITIES]),
    "protected": {"type": "boolean", "description": "Whether the image can't be deleted"},
    "os_hidden": {"type": "boolean", "description": "Whether lists leave the image out unless they are asked for hidden ones"},
    "checksum": _text_or_null("MD5 of the content", readOnly=True, maxLength=32),
    "os_hash_algo": _text_or_null("The hash of which os_hash_value is one", readOnly=True, maxLength=64),
    "os_hash_value": _text_or_null("Hash of the content, in hexadecimal digits", readOnly=True, maxLength=128),
    "owner": _text_or_null("The project that the image belongs to", maxLength=255),
    "size": {"type": ["null", "integer"], "readOnly": True, "description": "Size of the file in bytes"},
    "virtual_size": {"type": ["null", "integer"], "readOnly": True, "description": "Size in bytes of the disk that a guest sees"},
    "container_format": _text_or_null("What the disk is packed in", enum=[None, *CONTAINER_FORMATS]),
    "disk_format": _text_or_null("The format of the disk", enum=[None, *DISK_FORMATS]),
    "created_at": _text("When the image was registered", readOnly=True),
    "updated_at": _text("When the image was last changed", readOnly=True),
    "tags": {"type": "array", "description": "Words attached to the image", "items": {"type": "string", "maxLength": 255}},
    "direct_url": _text("Where the content lies in its store", readOnly=True),
    "min_ram": {"type": "integer", "description": "Memory that a machine needs to start from the image, in MiB"},
    "min_disk": {"type": "integer", "description": "Disk that a machine needs to start from the image, in GiB"},
    "self": _text("Where the image's record is", readOnly=True),
    "file": _text("Where the image's content is", readOnly=True),
    "stores": _text("The stores that hold the content, with commas between them", readOnly=True),
    "schema": _text("Where the schema of the record is", readOnly=True),
    "locations": {"type": "array", "items": _LOCATION, "description": "All addresses of the content"},
}
"""The base properties of an image. All others are text."""

IMAGE: dict[str, Any] = {
    "name": "image",
    "properties": PROPERTIES,
    "additionalProperties": {"type": "string"},
    "links": [
        {"rel": "self", "href": "{self}"},
        {"rel": "enclosure", "href": "{file}"},
        {"rel": "describedby", "href": "{schema}"},
    ],
}


def collection(name: str, item: dict[str, Any]) -> dict[str, Any]:
    """Returns the schema of a page of things."""
    definitions = {"definitions": item["definitions"]} if "definitions" in item else {}
    item = {key: value for key, value in item.items() if key != "definitions"}
    return {
        "name": name,
        "properties": {
            name: {"type": "array", "items": item},
            "first": {"type": "string"},
            "next": {"type": "string"},
            "schema": {"type": "string"},
        },
        "links": [
            {"rel": "first", "href": "{first}"},
            {"rel": "next", "href": "{next}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
        **definitions,
    }


IMAGES = collection("images", IMAGE)

_WHOLE_NUMBER = {"type": "integer", "minimum": 0, "maximum": 0x7FFFFFFF}
TAKEN: dict[str, Any] = {**IMAGE, "properties": {**PROPERTIES, "min_ram": _WHOLE_NUMBER, "min_disk": _WHOLE_NUMBER}}
"""What an image's properties are held to. Numbers are bounded as the records can hold them, which `IMAGE` does not tell."""
