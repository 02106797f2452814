"""The images that administrators want to be cached, which they may ask for, and may take back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select

from cowherd.service.records.image import Image, images_of, now, select_images
from cowherd.service.records.schema import cached, images

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection


def add_cached(connection: Connection, image_id: str) -> bool:
    """Records that an image, which there is, is to be cached. Returns whether it was not to be already."""
    is_new = connection.execute(select(cached.c.image_id).where(cached.c.image_id == image_id)).first() is None
    if is_new:
        connection.execute(insert(cached), {"image_id": image_id, "at": now()})
    return is_new


def list_cached(connection: Connection) -> list[tuple[Image, datetime]]:
    """Returns the images that are to be cached, each with the moment since when, the earliest first."""
    asked = select_images(images.join(cached, cached.c.image_id == images.c.id)).add_columns(cached.c.at)
    rows = connection.execute(asked.order_by(cached.c.at, cached.c.image_id)).all()
    return list(zip(images_of([row[:-1] for row in rows]), [row.at for row in rows], strict=True))


def forget_cached(connection: Connection, image_id: str) -> bool:
    """Records that an image is not to be cached any more. Returns whether it was to be."""
    return connection.execute(delete(cached).where(cached.c.image_id == image_id)).rowcount > 0
