"""Events: who changed what, and what failed, for those who ask later."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from sqlalchemy import delete, insert, select

from cowherd.service.records.image import now
from cowherd.service.records.schema import events

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection


class Author(NamedTuple):
    """Who asked for a change, and by which request; the service itself asks by none."""

    user_id: str | None = None
    project: str | None = None
    request_id: str | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened: `action` names what, as in "image.delete"; `detail` holds its facts."""

    action: str
    user_id: str | None = None
    project: str | None = None
    request_id: str | None = None
    image_id: str | None = None
    detail: dict[str, Any] = {}
    at: datetime = msgspec.field(default_factory=now)
    id: int = 0


def record_event(connection: Connection, event: Event) -> None:
    """Records an event; its `id` is given to it."""
    values = msgspec.structs.asdict(event)
    del values["id"]
    connection.execute(insert(events), values)


def list_events(
    connection: Connection,
    *,
    image_id: str | None = None,
    actions: Collection[str] = (),
    before: int | None = None,
    limit: int = 100,
) -> list[Event]:
    """Returns events, the latest first: of one image, with one of `actions`, and recorded before that with the id `before`."""
    asked = select(events).order_by(events.c.id.desc()).limit(limit)
    if image_id is not None:
        asked = asked.where(events.c.image_id == image_id)
    if actions:
        asked = asked.where(events.c.action.in_(list(actions)))
    if before is not None:
        asked = asked.where(events.c.id < before)
    return [Event(**row._asdict()) for row in connection.execute(asked)]


def was_deleted(connection: Connection, image_id: str) -> bool:
    """Tells whether there was an image of this id that somebody deleted, as long as events are kept."""
    return bool(list_events(connection, image_id=image_id, actions=["image.delete"], limit=1))


def images_since(connection: Connection, last: int, limit: int) -> list[tuple[int, str | None, str | None]]:
    """Returns the events after that with the id `last`, at most `limit`, the eldest first: (id, image, blob that it tells of)."""
    asked = select(events.c.id, events.c.image_id, events.c.detail).where(events.c.id > last).order_by(events.c.id).limit(limit)
    return [(number, image_id, detail.get("blob")) for number, image_id, detail in connection.execute(asked)]


def forget_events(connection: Connection, before: datetime) -> int:
    """Forgets the events before a moment; returns how many."""
    return connection.execute(delete(events).where(events.c.at < before)).rowcount
