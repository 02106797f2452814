"""Notes who changed what, in the transaction that changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cowherd.service.records.events import Event, record_event

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from cowherd.service.web.call import Call


def note(call: Call, connection: Connection, action: str, image_id: str, **detail: Any) -> None:
    """Records that the caller did `action`, as in "image.delete", with an image; `detail` holds the facts of it."""
    caller = call.caller
    event = Event(
        action=action, user_id=caller.user, project=caller.project, request_id=call.request_id, image_id=image_id, detail=detail
    )
    record_event(connection, event)
