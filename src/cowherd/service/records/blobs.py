"""Blobs: what is known of the bytes that stores hold, and where they are."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import delete, insert, or_, select, update

from cowherd.service.records.image import now
from cowherd.service.records.schema import blobs, images, places, uploads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection

WHOLE, DAMAGED, MISSING = "whole", "damaged", "missing"
"""The states of a place."""


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes of a file, by their BLAKE3 `digest`; all digests are hexadecimal digits, sizes are bytes.

    `content_digest` is that of what a guest sees, None where the format has none.
    """

    digest: str
    size: int
    md5: str | None = None
    sha256: str | None = None
    sha512: str | None = None
    format: str | None = None
    virtual_size: int | None = None
    content_digest: str | None = None
    created_at: datetime = msgspec.field(default_factory=now)
    unused_since: datetime | None = None


def read_blob(connection: Connection, digest: str) -> Blob | None:
    """Returns what is known of a blob, None if nothing is."""
    row = connection.execute(select(blobs).where(blobs.c.digest == digest)).first()
    return None if row is None else Blob(**row._asdict())


def record_blob(connection: Connection, blob: Blob) -> None:
    """Records a blob that an image gets now. If it is known, what was not known of it is added."""
    known = read_blob(connection, blob.digest)
    if known is None:
        connection.execute(insert(blobs), msgspec.structs.asdict(blob))
        return
    new = {name: value for name, value in msgspec.structs.asdict(blob).items() if getattr(known, name) is None}
    connection.execute(update(blobs).where(blobs.c.digest == blob.digest).values({**new, "unused_since": None}))


def record_place(
    connection: Connection, digest: str, store: str, how: str, identity: Sequence[int] | None = None, *, verified: bool = True
) -> None:
    """Records that a store has a blob whole, and unless it is not `verified`, that this was verified now.

    `how` says in which way, as in "upload"; `identity` is that of the file which was verified: device, inode, size, mtime, ctime.
    """
    connection.execute(delete(places).where(places.c.blob == digest, places.c.store == store))
    values = {"blob": digest, "store": store, "state": WHOLE, "verified_how": how}
    seen = {"verified_at": now() if verified else None, "identity": None if identity is None else list(identity)}
    connection.execute(insert(places), {**values, **seen})


def images_with_blob(connection: Connection, digest: str) -> list[str]:
    """Returns the ids of the images that have a blob, the eldest first."""
    asked = select(images.c.id).where(images.c.blob == digest).order_by(images.c.created_at, images.c.id)
    return list(connection.execute(asked).scalars())


def unused_blobs(connection: Connection, before: datetime, limit: int) -> list[str]:
    """Returns the digests of at most `limit` blobs that no image has had since `before`, longest first."""
    asked = select(blobs.c.digest).where(blobs.c.unused_since < before, ~_wanted()).order_by(blobs.c.unused_since)
    return list(connection.execute(asked.limit(limit)).scalars())


def forget_blob(connection: Connection, digest: str) -> bool:
    """Forgets a blob and its places if no image has it, and no upload is about to become it; tells whether it did.

    Take the bytes out of the stores before the transaction ends: whoever stores the same bytes again waits for it.
    """
    return connection.execute(delete(blobs).where(blobs.c.digest == digest, ~_wanted())).rowcount == 1


def _wanted() -> ColumnElement[bool]:
    had = select(images.c.id).where(images.c.blob == blobs.c.digest).exists()
    coming = select(uploads.c.id).where(uploads.c.digest == blobs.c.digest).exists()
    return or_(had, coming)
