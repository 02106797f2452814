"""Gives the schemas out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cowherd.service.web.call import document_answer
from cowherd.service.web.operation import operation
from cowherd.service.web.routing import resource
from cowherd.service.web.schemas import metadefs
from cowherd.service.web.schemas.image import IMAGE, IMAGES
from cowherd.service.web.schemas.others import MEMBER, MEMBERS, TASK, TASKS

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.routing import Route

    from cowherd.service.web.call import Call
    from cowherd.service.web.routing import Handler

SCHEMAS: dict[str, dict[str, Any]] = {
    "image": IMAGE,
    "images": IMAGES,
    "member": MEMBER,
    "members": MEMBERS,
    "task": TASK,
    "tasks": TASKS,
    **{f"metadefs/{name}": schema for name, schema in metadefs.SCHEMAS.items()},
}
"""The schemas by what follows /v2/schemas/."""


def _giving(schema: dict[str, Any]) -> Handler:
    @operation(gives="schema")
    def show(call: Call) -> Response:
        """Shows the schema."""
        return document_answer(schema)

    return show


ROUTES: list[Route] = [resource(f"/v2/schemas/{name}", GET=_giving(schema)) for name, schema in SCHEMAS.items()]
