"""The JSON beside a blob, which tells people without the records what it is, and from which the records can be made again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from cowherd.service.records.blobs import Blob
from cowherd.service.records.image import Image
from cowherd.service.records.members import Member
from cowherd.service.records.states import ACTIVE, DEACTIVATED

_OF_BLOB = ("digest", "size", "md5", "sha256", "sha512", "format", "virtual_size", "content_digest")
_OF_IMAGE = (
    *("name", "owner", "visibility", "protected", "os_hidden", "disk_format", "container_format", "min_ram", "min_disk"),
    *("checksum", "os_hash_algo", "os_hash_value", "size", "virtual_size", "created_at", "properties", "tags"),
    "locations",
)
MEMBERS = "members"
"""What of an image says to which projects it is lent, with the answer of each."""


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What lies beside a blob: the `blob`'s own facts, and those of its `images` by their ids."""

    version: int = 1
    blob: dict[str, Any] = {}
    images: dict[str, dict[str, Any]] = {}


def with_image(text: bytes | None, blob: Blob, image: Image, members: Iterable[Member]) -> bytes:
    """Returns the text that lies beside a blob once `image` has it; `text` is what lies there, None if nothing does.

    What does not make sense is replaced: it is a note to people, and the records know better. An image that gets its bytes has
    no other address of them, as the records will say.
    """
    before, image = read_about(text), msgspec.structs.replace(image, locations=())
    return _encoded(blob, {**(before.images if before else {}), image.id: _facts_of(image, members)})


def about_of(blob: Blob, images: Iterable[tuple[Image, Iterable[Member]]]) -> bytes:
    """Returns the text that is to lie beside a blob which these images have, each with its members."""
    return _encoded(blob, {image.id: _facts_of(image, members) for image, members in images})


def read_about(text: bytes | None) -> About | None:
    """Returns what a text says that lay beside a blob, None if it makes no sense, or there is none."""
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=About)
    except msgspec.MsgspecError:
        return None


def tells_of(about: About | None, blob: Blob) -> bool:
    """Returns whether a text is sound and says of a blob what the records do."""
    return about is not None and about.blob == _facts_of_blob(blob)


def _encoded(blob: Blob, images: dict[str, dict[str, Any]]) -> bytes:
    about = About(blob=_facts_of_blob(blob), images=images)
    return msgspec.json.format(msgspec.json.encode(about), indent=1) + b"\n"


def _facts_of_blob(blob: Blob) -> dict[str, Any]:
    return {name: getattr(blob, name) for name in _OF_BLOB}


def _facts_of(image: Image, members: Iterable[Member]) -> dict[str, Any]:
    """Returns what is told of an image that has its bytes, or is just getting them."""
    lent = {MEMBERS: {one.member: one.status for one in members}}
    status = DEACTIVATED if image.status == DEACTIVATED else ACTIVE
    return {"status": status, **{name: getattr(image, name) for name in _OF_IMAGE}, **lent}
