"""What failed: uploads and imports that gave an image no content, with the reason. The image waits for content again."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, update

from cowherd.service.records.events import Event, record_event
from cowherd.service.records.image import now
from cowherd.service.records.images import change_status
from cowherd.service.records.schema import events, images
from cowherd.service.records.states import QUEUED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from sqlalchemy import ColumnElement, Connection

    from cowherd.service.records.database import Database

FAILED = "image.failed"
"""The action of these events."""


def queue_again(connection: Connection, image_id: str, allowed: Collection[str], reason: str, **columns: Any) -> None:
    """Has an image in one of the states `allowed` wait for content again, and tells for which `reason`, a sentence.

    Raises as `change_status`.
    """
    change_status(connection, image_id, allowed, QUEUED, reason=reason, **columns)
    note_failure(connection, image_id, reason)


@contextlib.contextmanager
def telling_why(database: Database, image_id: str, *errors: type[Exception]) -> Iterator[None]:
    """Has an image tell of these errors of the block, by which nothing of its content began to arrive.

    Raises what the block does, and what the records raise.
    """
    try:
        yield
    except errors as error:
        with database.write() as connection:
            _note_refusal(connection, image_id, str(error))
        raise


def _note_refusal(connection: Connection, image_id: str, reason: str) -> None:
    """Has an image that waits for content say why it got none. One that is being given other content meanwhile says nothing."""
    waits = update(images).where(images.c.id == image_id, images.c.status == QUEUED)
    if connection.execute(waits.values(reason=reason, version=images.c.version + 1, updated_at=now())).rowcount:
        note_failure(connection, image_id, reason)


def note_failure(connection: Connection, image_id: str, reason: str) -> None:
    """Records that an image got no content, and why. It is told to the project whose image it is."""
    row = connection.execute(select(images.c.owner, images.c.name).where(images.c.id == image_id)).first()
    owner, name = (None, None) if row is None else row
    record_event(connection, Event(action=FAILED, project=owner, image_id=image_id, detail={"name": name, "reason": reason}))


def list_failures(connection: Connection, *, project: str | None = None, limit: int) -> list[Event]:
    """Returns what failed, the latest first; with `project` only that of its images. Their `detail` has `name` and `reason`."""
    asked = select(events).where(*_failed(project)).order_by(events.c.id.desc()).limit(limit)
    return [Event(**row._asdict()) for row in connection.execute(asked)]


def count_failures(connection: Connection, *, project: str | None = None) -> int:
    """Returns how many such events are kept."""
    return connection.execute(select(func.count()).select_from(events).where(*_failed(project))).scalar_one()


def _failed(project: str | None) -> list[ColumnElement[bool]]:
    return [events.c.action == FAILED, *([] if project is None else [events.c.project == project])]
