"""The projects that an image is shared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from cowherd.service.policy.rules import Verdict, may
from cowherd.service.records.members import (
    Member,
    Status,
    add_member,
    change_member,
    delete_member,
    list_members,
    read_member,
)
from cowherd.service.web.access import require_image, sees_own
from cowherd.service.web.audit import note
from cowherd.service.web.call import document_answer, empty_answer
from cowherd.service.web.documents import time_text
from cowherd.service.web.errors import BadRequest, Forbidden, NotFound, TooLarge
from cowherd.service.web.operation import operation
from cowherd.service.web.routing import resource

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.routing import Route

    from cowherd.service.web.call import Call

_MOST_MEMBER_CHARACTERS = 255


@operation("get_members", gives="members", means={403: "the image is not shared, or the caller may see it and not do this"})
def index(call: Call) -> Response:
    """Shows the projects that an image is shared with: all to its owner, to a project that it is shared with only that one."""
    with call.service.database.read() as connection:
        image = require_image(call, connection, "get_members")
        own = sees_own(call, image)
        members = [one for one in list_members(connection, image.id) if own or one.member == call.caller.project]
    return document_answer({"members": [_document(one) for one in members], "schema": "/v2/schemas/members"})


@operation(
    "add_member",
    takes="new member",
    gives="member",
    means={
        403: "the image is not shared, or the caller may see it and not do this",
        409: "it is shared with the project already",
        413: "it is shared with as many projects as are allowed, or the body is larger than is taken",
    },
)
def create(call: Call) -> Response:
    """Shares an image with a project."""
    project = _given(call, "member")
    with call.service.database.write() as connection:
        image = require_image(call, connection, "add_member")
        most = call.service.settings.image_member_quota
        if 0 <= most <= len(list_members(connection, image.id)):
            raise TooLarge(f"The limit has been exceeded on the number of allowed image members for this image. Maximum: {most}")
        member = add_member(connection, image.id, project)
        note(call, connection, "member.add", image.id, member=project)
    return document_answer(_document(member))


@operation("get_member", gives="member", means={404: "there is no such image or member, or the caller may not see it"})
def show(call: Call) -> Response:
    """Shows one project that an image is shared with."""
    with call.service.database.read() as connection:
        try:
            image = require_image(call, connection, "get_member")
        except Forbidden as error:  # as Glance answers here, and only here
            raise NotFound(str(error)) from error
        member = read_member(connection, image.id, call.names["member"])
        if not sees_own(call, image) and member.member != call.caller.project:
            raise NotFound(f"{member.member} not found in the member list of the image {image.id}.")
    return document_answer(_document(member))


@operation(
    "get_image",
    "modify_member",
    takes="new status",
    gives="member",
    means={403: "only the member itself answers", 404: "there is no such image or member, or the caller may not see it"},
)
def update(call: Call) -> Response:
    """Records what a project says to being shared an image."""
    status: Any = _given(call, "status")
    with call.service.database.write() as connection:
        image = require_image(call, connection, "get_image")
        if image.visibility != "shared":
            raise Forbidden("Only shared images have members.")
        member = read_member(connection, image.id, call.names["member"])
        lent = member.member == call.caller.project
        if may("modify_member", call.caller, image, lent=lent) is not Verdict.YES:
            raise Forbidden(f"Not allowed to update members for image {image.id}.")
        if status not in get_args(Status):
            raise BadRequest(f"Incorrect request: Status must be one of {', '.join(get_args(Status))}.")
        member = change_member(connection, image.id, member.member, status)
        note(call, connection, "member.answer", image.id, member=member.member, status=status)
    return document_answer(_document(member))


@operation(
    "delete_member",
    means={
        403: "the image is not shared, or the caller may see it and not do this",
        404: "there is no such image or member, or the caller may not see it",
    },
)
def delete(call: Call) -> Response:
    """Shares an image with a project no more."""
    with call.service.database.write() as connection:
        image = require_image(call, connection, "delete_member")
        delete_member(connection, image.id, call.names["member"])
        note(call, connection, "member.remove", image.id, member=call.names["member"])
    return empty_answer()


def _document(member: Member) -> dict[str, str]:
    return {
        "member_id": member.member,
        "image_id": member.image_id,
        "status": member.status,
        "created_at": time_text(member.created_at),
        "updated_at": time_text(member.updated_at),
        "schema": "/v2/schemas/member",
    }


def _given(call: Call, name: str) -> str:
    """Returns the one property that the body must have. Raises `BadRequest`."""
    document = call.document()
    if not isinstance(document, dict):
        raise BadRequest(f'Expected a {name} in the form: {{"{name}": "..."}}')
    value = document.get(name)
    if value is None or value == "":
        raise BadRequest(f"{name.capitalize()} not specified")
    if not isinstance(value, str) or len(value) > _MOST_MEMBER_CHARACTERS or "\0" in value:
        raise BadRequest(f"{name.capitalize()} must be text of at most {_MOST_MEMBER_CHARACTERS} characters")
    return value


ROUTES: list[Route] = [
    resource("/v2/images/{image_id}/members", GET=index, POST=create),
    resource("/v2/images/{image_id}/members/{member}", GET=show, PUT=update, DELETE=delete),
]
