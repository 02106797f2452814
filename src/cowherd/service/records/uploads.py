"""Uploads under way: which bytes arrive for which image, and how much room they hold."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import delete, func, insert, select, update

from cowherd.service.records.image import now
from cowherd.service.records.schema import uploads

if TYPE_CHECKING:
    from sqlalchemy import Connection


class UploadRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An upload of the image `image_id` into `store`, where it lies as `temporary`; sizes are bytes.

    `offset` bytes are durable, of `length` (None: not known). `reserved` counts against the quota of `project`. `digest` is the
    blob that it is about to become.
    """

    id: str
    image_id: str
    kind: str
    project: str | None
    store: str
    temporary: str | None
    expires_at: datetime
    offset: int = 0
    length: int | None = None
    reserved: int = 0
    digest: str | None = None
    details: dict[str, Any] = {}
    created_at: datetime = msgspec.field(default_factory=now)


def begin_upload(connection: Connection, upload: UploadRecord) -> None:
    """Records an upload that begins."""
    connection.execute(insert(uploads), msgspec.structs.asdict(upload))


def read_upload(connection: Connection, upload_id: str) -> UploadRecord | None:
    """Returns an upload, None if it has ended."""
    row = connection.execute(select(uploads).where(uploads.c.id == upload_id)).first()
    return None if row is None else UploadRecord(**row._asdict())


def reserve(connection: Connection, upload_id: str, amount: int) -> None:
    """Reserves so many bytes for an upload, in place of what it had reserved."""
    connection.execute(update(uploads).where(uploads.c.id == upload_id).values(reserved=amount))


def change_kind(connection: Connection, upload_id: str, kind: str) -> None:
    """Changes the kind of an upload, as when what waited is taken up."""
    connection.execute(update(uploads).where(uploads.c.id == upload_id).values(kind=kind))


def note_details(connection: Connection, upload_id: str, details: dict[str, Any]) -> None:
    """Replaces the details of an upload."""
    connection.execute(update(uploads).where(uploads.c.id == upload_id).values(details=details))


def note_digest(connection: Connection, upload_id: str, digest: str) -> None:
    """Notes the blob that an upload is about to become."""
    connection.execute(update(uploads).where(uploads.c.id == upload_id).values(digest=digest))


def end_upload(connection: Connection, upload_id: str) -> None:
    """Forgets an upload, and gives up what it reserved."""
    connection.execute(delete(uploads).where(uploads.c.id == upload_id))


def advance_upload(connection: Connection, upload_id: str, offset: int, expires_at: datetime) -> bool:
    """Notes that `offset` bytes of an upload are durable, and how long it waits for more; tells whether it is still known."""
    values = {"offset": offset, "expires_at": expires_at}
    return connection.execute(update(uploads).where(uploads.c.id == upload_id).values(values)).rowcount == 1


def list_uploads(connection: Connection, *, image_id: str | None = None, store: str | None = None) -> list[UploadRecord]:
    """Returns the uploads under way, of one image or into one store if asked for, the eldest first."""
    asked = select(uploads).order_by(uploads.c.created_at, uploads.c.id)
    if image_id is not None:
        asked = asked.where(uploads.c.image_id == image_id)
    if store is not None:
        asked = asked.where(uploads.c.store == store)
    return [UploadRecord(**row._asdict()) for row in connection.execute(asked)]


def latest_uploads(connection: Connection, *, project: str | None = None, limit: int) -> list[UploadRecord]:
    """Returns the uploads under way to which something came last, of one project if asked for; at most `limit`."""
    asked = select(uploads).order_by(uploads.c.expires_at.desc()).limit(limit)
    if project is not None:
        asked = asked.where(uploads.c.project == project)
    return [UploadRecord(**row._asdict()) for row in connection.execute(asked)]


def count_uploads(connection: Connection, *, project: str | None = None) -> int:
    """Returns how many uploads are under way, of one project if asked for."""
    asked = select(func.count()).select_from(uploads)
    return connection.execute(asked if project is None else asked.where(uploads.c.project == project)).scalar_one()


def expired_uploads(connection: Connection, moment: datetime) -> list[UploadRecord]:
    """Returns the uploads that waited for more until before `moment`."""
    asked = select(uploads).where(uploads.c.expires_at < moment).order_by(uploads.c.expires_at)
    return [UploadRecord(**row._asdict()) for row in connection.execute(asked)]
