"""An image as clients see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cowherd.service.web.documents import time_text

if TYPE_CHECKING:
    from cowherd.service.records.image import Image

_PLAIN = (
    *("name", "disk_format", "container_format", "visibility", "size", "virtual_size", "status", "checksum", "protected"),
    *("min_ram", "min_disk", "owner", "os_hidden", "os_hash_algo", "os_hash_value", "id"),
)
_NEVER_SHOWN = ("os_glance_stage_host", "os_glance_hash_op_host")


def path_of(image_id: str) -> str:
    """Returns the path of an image's record."""
    return f"/v2/images/{image_id}"


def image_document(image: Image, *, own: bool) -> dict[str, Any]:
    """Returns what is told of an image: its properties at the top level, the base ones over those of the same name.

    Where its content lies, and what failed last, is told only where the image is the caller's `own`.
    """
    document: dict[str, Any] = {name: value for name, value in image.properties.items() if name not in _NEVER_SHOWN}
    for name in _PLAIN:
        document[name] = getattr(image, name)
    document["created_at"] = time_text(image.created_at)
    document["updated_at"] = time_text(image.updated_at)
    document["tags"] = list(image.tags)
    document["self"] = path_of(image.id)
    document["file"] = path_of(image.id) + "/file"
    document["schema"] = "/v2/schemas/image"
    document["locations"] = locations_of(image) if own else []
    if document["locations"]:
        document["direct_url"] = document["locations"][0]["url"]
    if image.stores:
        document["stores"] = ",".join(image.stores)
    if image.base_content is not None:
        document["cowherd_content"] = image.base_content
        if image.base is not None:
            document["cowherd_base"] = image.base
    if own and image.reason is not None:
        document["cowherd_reason"] = image.reason
    return document


def locations_of(image: Image) -> list[dict[str, Any]]:
    """Returns where the content of an image lies: in stores, which are named but not where they are, and at other addresses."""
    stored = [{"url": f"cowherd://{store}/{image.blob}", "metadata": {"store": store}} for store in image.stores]
    return [*stored, *({"url": one.url, "metadata": one.metadata} for one in image.locations)]
