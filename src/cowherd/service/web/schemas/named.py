"""All documents that come in and go out, by the names that the description of the API has for them."""

from __future__ import annotations

from typing import Any

from cowherd.service.web.schemas import answers, metadefs, others, requests
from cowherd.service.web.schemas.image import IMAGE, IMAGES

DOCUMENTS: dict[str, dict[str, Any]] = {
    "image": IMAGE,
    "images": IMAGES,
    "new image": requests.NEW_IMAGE,
    "changes": requests.CHANGES,
    "older changes": requests.OLDER_CHANGES,
    "import": requests.IMPORT,
    "member": others.MEMBER,
    "members": others.MEMBERS,
    "new member": requests.NEW_MEMBER,
    "new status": requests.NEW_STATUS,
    "locations": answers.LOCATIONS,
    "new location": requests.NEW_LOCATION,
    "lineage": answers.LINEAGE,
    "task": others.TASK,
    "tasks": others.TASKS,
    "tasks of an image": answers.IMAGE_TASKS,
    "new task": requests.NEW_TASK,
    "import methods": answers.IMPORT_METHODS,
    "stores": answers.STORES,
    "stores in detail": answers.STORES_IN_DETAIL,
    "usage": answers.USAGE,
    "cache": answers.CACHE,
    "cached images": answers.CACHED_IMAGES,
    "queued images": answers.QUEUED_IMAGES,
    "nodes": answers.NODES,
    "pruned": answers.PRUNED,
    "versions": answers.VERSIONS,
    "health": answers.HEALTH,
    "error": answers.ERROR,
    "schema": answers.SCHEMA,
    "metadefs/all_resource_types": answers.RESOURCE_TYPES,
    "metadefs/new_tags": metadefs.TAG_LIST,
    **{f"metadefs/{name}": schema for name, schema in metadefs.SCHEMAS.items()},
}
