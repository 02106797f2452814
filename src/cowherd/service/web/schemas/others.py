"""The schemas of members and tasks."""

from __future__ import annotations

from typing import Any

from cowherd.service.web.schemas.image import UUID_PATTERN, collection


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


def _short_collection(name: str, item: dict[str, Any]) -> dict[str, Any]:
    """Returns the schema of a list, without the properties that lead to further pages."""
    whole = collection(name, item)
    properties = {key: value for key, value in whole["properties"].items() if key not in ("first", "next")}
    return {"name": name, "properties": properties, "links": whole["links"][-1:]}


_LINKS = {"self": {"type": "string", "readOnly": True}, "schema": {"type": "string", "readOnly": True}}
MEMBER: dict[str, Any] = {
    "name": "member",
    "properties": {
        "member_id": _text("The project that an image is shared with"),
        "image_id": _text("The image that is shared", pattern=UUID_PATTERN),
        "created_at": _text("When the image was shared"),
        "updated_at": _text("When the status was last changed"),
        "status": _text("What the project answered", enum=["pending", "accepted", "rejected"]),
        "schema": {"type": "string", "readOnly": True},
    },
}
MEMBERS = _short_collection("members", MEMBER)

_TASK_PROPERTIES: dict[str, dict[str, Any]] = {
    "id": _text("What the task is known by", pattern=UUID_PATTERN),
    "type": _text("What kind of work it is", enum=["import", "api_image_import", "location_import", "standalone"]),
    "status": _text("What the task is at", enum=["pending", "processing", "success", "failure"]),
    "input": {"type": ["null", "object"], "description": "What the task was given"},
    "result": {"type": ["null", "object"], "description": "What came out of it"},
    "owner": {
        "type": ["null", "string"],
        "description": "The project that the task belongs to, null where nobody is asked who they are",
    },
    "message": _text("What people should know of it, after a failure mostly"),
    "image_id": _text("The image that the task works on"),
    "request_id": _text("The request that started the task"),
    "user_id": _text("Who started the task"),
    "expires_at": {"type": ["null", "string"], "description": "When the task's record may be removed"},
    "created_at": _text("When the task was made"),
    "updated_at": _text("When the task was last changed"),
    **_LINKS,
}
TASK: dict[str, Any] = {"name": "task", "properties": _TASK_PROPERTIES}
_STUB_PROPERTIES = {name: value for name, value in _TASK_PROPERTIES.items() if name not in ("input", "result", "message")}
TASKS = _short_collection("tasks", {**TASK, "properties": _STUB_PROPERTIES})
