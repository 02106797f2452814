"""The JSON beside a blob, which tells people without the records what it is, and from which the records can be made again."""

from __future__ import annotations

from typing import Any

import msgspec

from cowherd.service.records.blobs import Blob
from cowherd.service.records.image import Image

_OF_BLOB = ("digest", "size", "md5", "sha256", "sha512", "format", "virtual_size", "content_digest")
_OF_IMAGE = (
    *("name", "owner", "visibility", "protected", "os_hidden", "disk_format", "container_format", "min_ram", "min_disk"),
    *("checksum", "os_hash_algo", "os_hash_value", "size", "virtual_size", "created_at", "properties", "tags"),
)


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What lies beside a blob: the `blob`'s own facts, and those of its `images` by their ids."""

    version: int = 1
    blob: dict[str, Any] = {}
    images: dict[str, dict[str, Any]] = {}


def with_image(text: bytes | None, blob: Blob, image: Image) -> bytes:
    """Returns the text that lies beside a blob once `image` has it; `text` is what lies there, None if nothing does.

    What does not make sense is replaced: it is a note to people, and the records know better.
    """
    images = dict(_read(text).images)
    images[image.id] = {name: getattr(image, name) for name in _OF_IMAGE}
    about = About(blob={name: getattr(blob, name) for name in _OF_BLOB}, images=images)
    return msgspec.json.format(msgspec.json.encode(about), indent=1) + b"\n"


def _read(text: bytes | None) -> About:
    try:
        return msgspec.json.decode(text or b"{}", type=About)
    except msgspec.MsgspecError:
        return About()
