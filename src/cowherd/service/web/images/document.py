"""An image as clients see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cowherd.service.policy.personas import Persona
from cowherd.service.records.states import DEACTIVATED
from cowherd.service.web.access import sees_own
from cowherd.service.web.documents import time_text

if TYPE_CHECKING:
    from cowherd.service.records.image import Image
    from cowherd.service.web.call import Call

_PLAIN = (
    *("name", "disk_format", "container_format", "visibility", "size", "virtual_size", "status", "checksum", "protected"),
    *("min_ram", "min_disk", "owner", "os_hidden", "os_hash_algo", "os_hash_value", "id"),
)
_NEVER_SHOWN = ("os_glance_stage_host", "os_glance_hash_op_host")


def path_of(image_id: str) -> str:
    """Returns the path of an image's record."""
    return f"/v2/images/{image_id}"


def image_document(call: Call, image: Image) -> dict[str, Any]:
    """Returns what is told of an image: its properties at the top level, the base ones over those of the same name.

    Where its content lies, and what failed last, is told only where the image is the caller's own.
    """
    own, web_store = sees_own(call, image), call.service.settings.http_store
    # Of an image that is out of use, others than administrators are not told where it lies.
    placed = image.status != DEACTIVATED or call.caller.has(Persona.ADMIN)
    document: dict[str, Any] = {name: value for name, value in image.properties.items() if name not in _NEVER_SHOWN}
    for name in _PLAIN:
        document[name] = getattr(image, name)
    document["created_at"] = time_text(image.created_at)
    document["updated_at"] = time_text(image.updated_at)
    document["tags"] = list(image.tags)
    document["self"] = path_of(image.id)
    document["file"] = path_of(image.id) + "/file"
    document["schema"] = "/v2/schemas/image"
    document["locations"] = locations_of(image, web_store) if own and placed else []
    if document["locations"]:
        document["direct_url"] = document["locations"][0]["url"]
    stores = [*image.stores, *(web_store for _ in image.locations)]
    if stores and placed:
        document["stores"] = ",".join(stores)
    if image.base_content is not None:
        document["cowherd_content"] = image.base_content
        if image.base is not None:
            document["cowherd_base"] = image.base
    if own and image.reason is not None:
        document["cowherd_reason"] = image.reason
    return document


def locations_of(image: Image, web_store: str) -> list[dict[str, Any]]:
    """Returns where the content of an image lies: in stores, which are named but not where they are, and on the web."""
    stored = [{"url": f"cowherd://{store}/{image.blob}", "metadata": {"store": store}} for store in image.stores]
    return [*stored, *({"url": one.url, "metadata": {**one.metadata, "store": web_store}} for one in image.locations)]
