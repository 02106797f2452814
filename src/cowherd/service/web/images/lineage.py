"""Who stands on whom: shown, and kept: what overlays stand on is not deleted, and is as visible as they are."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from cowherd.formats import registry
from cowherd.service.intake.lineage import MoreVisible, allows, children_of, having
from cowherd.service.intake.signatures import PROPERTIES
from cowherd.service.policy.rules import Verdict, may
from cowherd.service.records.image import Image
from cowherd.service.records.images import create_image, read_image
from cowherd.service.records.lineage import ancestors, children_of_content, content_of, set_base
from cowherd.service.records.members import member_status
from cowherd.service.records.tasks import create_task
from cowherd.service.tasks.standalone import TYPE
from cowherd.service.web.access import require_for_new, require_image
from cowherd.service.web.audit import note
from cowherd.service.web.call import document_answer, new_task
from cowherd.service.web.errors import Conflict
from cowherd.service.web.images.document import image_document, path_of
from cowherd.service.web.operation import operation
from cowherd.service.web.routing import resource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Connection
    from starlette.responses import Response
    from starlette.routing import Route

    from cowherd.service.records.tasks import Task
    from cowherd.service.web.call import Call

_MOST_NAMED = 10


@operation("get_lineage", gives="lineage")
def show(call: Call) -> Response:
    """Shows what an image stands on, the nearest first, what stands on it, and what stands on the same as it does.

    Images that the caller may not see are counted only.
    """
    with call.service.database.read() as connection:
        image = require_image(call, connection, "get_lineage")
        claims = ancestors(connection, image.id)
        content = content_of(connection, image.id)
        above = children_of(connection, image)
        beside = children_of_content(connection, claims[0].base_content) if claims else []
        seen_above, hidden_above = _seen(call, connection, above)
        seen_beside, hidden_beside = _seen(call, connection, [one for one in beside if one != image.id])
        under = [{"content": claim.base_content, **_base_facts(call, connection, claim.base_content)} for claim in claims]
    return document_answer(
        {
            "id": image.id,
            "content": content,
            "ancestors": under,
            "children": [_facts(one) for one in seen_above],
            "siblings": [_facts(one) for one in seen_beside],
            "hidden": {"children": hidden_above, "siblings": hidden_beside},
        }
    )


@operation(
    "get_image",
    "make_standalone",
    "add_image",
    gives="image",
    status=202,
    sent={"Location": "the path of the new image's record"},
    means={202: "a task writes the content of the new image", 409: "the image has no content that could be read as a disk"},
)
def make_standalone(call: Call) -> Response:
    """Begins to make a raw image with what a guest sees of an image, and answers with its record before it has content."""
    with call.service.database.write() as connection:
        source = require_image(call, connection, "get_image")
        require_image(call, connection, "make_standalone", source)
        if source.blob is None or not registry.named(source.disk_format or "").is_known:
            raise Conflict(f"Image {source.id} has no content that could be read as a disk.")
        target = Image(
            id=str(uuid.uuid4()),
            name=source.name,
            owner=call.caller.project,
            visibility="private",
            disk_format="raw",
            container_format="bare",
            min_ram=source.min_ram,
            min_disk=source.min_disk,
            properties=_for_other_bytes(source.properties),
        )
        require_for_new(call, target)
        create_image(connection, target)
        create_task(connection, _standalone_task(call, source, target))
        note(call, connection, "image.standalone", target.id, source=source.id)
        target = read_image(connection, target.id)
    call.service.runner.wake()
    return document_answer(image_document(call, target), 202, {"Location": path_of(target.id)})


def _for_other_bytes(properties: Mapping[str, str]) -> dict[str, str]:
    """Returns the properties that an image of other bytes takes over: a signature is one of the bytes."""
    kept = {name: value for name, value in properties.items() if not name.startswith("os_glance_")}
    return {name: value for name, value in kept.items() if name not in PROPERTIES}


def _standalone_task(call: Call, source: Image, target: Image) -> Task:
    return new_task(call, TYPE, target.id, {"image_id": source.id, "store": call.service.default_store})


def release_children(call: Call, connection: Connection, image: Image) -> None:
    """Called before an image is deleted: has what stands on it stand on another image of the same content.

    Raises `Conflict` if there is none: it names the overlays that the caller may see, and counts the others.
    """
    content, children = content_of(connection, image.id), children_of(connection, image)
    if content is None or not children:
        return
    others = [one for one in having(connection, content) if one.id != image.id]
    images = [read_image(connection, child) for child in children]
    if all(any(allows(other, child) for other in others) for child in images):
        for child in images:
            if child.base == image.id:
                set_base(connection, child.id, next(other.id for other in others if allows(other, child)))
        return
    seen, hidden = _seen(call, connection, children)
    raise Conflict(f"Image {image.id} can't be deleted: {_named(seen, hidden)} on it. Delete what stands on it first.")


def require_visibility(connection: Connection, before: Image, after: Image) -> None:
    """Raises `Conflict` if a change makes an image more visible than what it stands on, or less than what stands on it."""
    if (before.visibility, before.owner) == (after.visibility, after.owner):
        return
    if after.base_content is not None:
        bases = having(connection, after.base_content)
        if bases and not any(allows(base, after) for base in bases):
            raise MoreVisible(after, bases[0])
    content = content_of(connection, after.id)
    bases = [after if one.id == after.id else one for one in having(connection, content)] if content else []
    for child in children_of(connection, before):
        image = read_image(connection, child)
        if not any(allows(base, image) for base in bases):
            raise MoreVisible(image, after)


def _named(seen: list[Image], hidden: int) -> str:
    """Returns the subject of a sentence, with its verb: those who stand on an image."""
    parts = [one.id for one in seen[:_MOST_NAMED]]
    if len(seen) > _MOST_NAMED:
        parts.append(f"{len(seen) - _MOST_NAMED} more of yours")
    if hidden:
        parts.append(f"{hidden} that you may not see")
    one = len(seen) + hidden == 1
    return f"{'image' if one else 'images'} {', '.join(parts)} {'stands' if one else 'stand'}"


def _seen(call: Call, connection: Connection, image_ids: Iterable[str]) -> tuple[list[Image], int]:
    """Returns the images that the caller may see, and how many others there are."""
    images = [read_image(connection, one) for one in image_ids]
    seen = [image for image in images if _sees(call, connection, image)]
    return seen, len(images) - len(seen)


def _sees(call: Call, connection: Connection, image: Image) -> bool:
    lent = member_status(connection, image.id, call.caller.project) is not None
    return may("get_image", call.caller, image, lent=lent) is Verdict.YES


def _base_facts(call: Call, connection: Connection, content: str) -> dict[str, Any]:
    """Returns what is told of what has a content: nothing if the caller sees no image with it."""
    seen = [image for image in having(connection, content) if _sees(call, connection, image)]
    return _facts(seen[0]) if seen else {}


def _facts(image: Image) -> dict[str, Any]:
    return {
        "id": image.id,
        "name": image.name,
        "status": image.status,
        "visibility": image.visibility,
        "size": image.size,
        "self": path_of(image.id),
    }


ROUTES: list[Route] = [
    resource("/cowherd/v1/images/{image_id}/lineage", GET=show),
    resource("/cowherd/v1/images/{image_id}/standalone", POST=make_standalone),
]
