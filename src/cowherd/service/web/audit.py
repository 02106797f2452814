"""Notes who changed what, in the transaction that changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cowherd.service.records.events import Author, Event, record_event

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from cowherd.service.web.call import Call


def author_of(call: Call) -> Author:
    """Returns who asks, as events name them."""
    return Author(call.caller.user, call.caller.project, call.request_id)


def note(call: Call, connection: Connection, action: str, image_id: str | None = None, **detail: Any) -> None:
    """Records that the caller did `action`, as in "image.delete", with an image if it is of one; `detail` holds its facts."""
    record_event(connection, Event(action=action, image_id=image_id, detail=detail, **author_of(call)._asdict()))
