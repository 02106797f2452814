"""Members: the projects that an image is lent to, and whether they have accepted it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Literal

import msgspec
from sqlalchemy import and_, delete, insert, select, update

from cowherd.service.records.faults import MemberExists, MemberNotFound
from cowherd.service.records.image import now
from cowherd.service.records.images import status_of
from cowherd.service.records.schema import members

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection

Status = Literal["pending", "accepted", "rejected"]


class Member(msgspec.Struct, frozen=True):
    """A project that an image is lent to."""

    image_id: str
    member: str
    status: Status
    created_at: datetime
    updated_at: datetime


def add_member(connection: Connection, image_id: str, member: str) -> Member:
    """Lends an image to a project, which has still to accept it.

    Raises `MemberExists` if it is lent to it already, `ImageNotFound`, `Unstorable`.
    """
    status_of(connection, image_id)
    moment = now()
    row = {"image_id": image_id, "member": member, "status": "pending", "created_at": moment, "updated_at": moment}
    if member_status(connection, image_id, member) is not None:
        raise MemberExists(image_id, member)
    connection.execute(insert(members), row)
    return Member(image_id, member, "pending", moment, moment)


def record_member(connection: Connection, member: Member) -> None:
    """Records a member as another service knew it, of an image that has just been created. Raises `Unstorable`."""
    connection.execute(insert(members), msgspec.structs.asdict(member))


def list_members(connection: Connection, image_id: str) -> list[Member]:
    """Returns the members of an image, the eldest first; none if there is no such image."""
    asked = select(members).where(members.c.image_id == image_id).order_by(members.c.created_at, members.c.member)
    return [Member(**row._asdict()) for row in connection.execute(asked)]


def read_member(connection: Connection, image_id: str, member: str) -> Member:
    """Returns one member of an image. Raises `MemberNotFound`."""
    row = connection.execute(select(members).where(_one(image_id, member))).first()
    if row is None:
        raise MemberNotFound(image_id, member)
    return Member(**row._asdict())


def member_status(connection: Connection, image_id: str, project: str | None) -> Status | None:
    """Returns what a project said to being lent an image, or None if it is not."""
    if project is None:
        return None
    status: Status | None = connection.execute(select(members.c.status).where(_one(image_id, project))).scalar()
    return status


def change_member(connection: Connection, image_id: str, member: str, status: Status) -> Member:
    """Records what a project says to being lent an image. Raises `MemberNotFound`."""
    connection.execute(update(members).where(_one(image_id, member)).values(status=status, updated_at=now()))
    return read_member(connection, image_id, member)


def delete_member(connection: Connection, image_id: str, member: str) -> None:
    """Lends an image to a project no more. Raises `MemberNotFound`."""
    if connection.execute(delete(members).where(_one(image_id, member))).rowcount == 0:
        raise MemberNotFound(image_id, member)


def _one(image_id: str, member: str) -> ColumnElement[bool]:
    return and_(members.c.image_id == image_id, members.c.member == member)
