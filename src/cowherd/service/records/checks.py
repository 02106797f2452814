"""What does not fit in the records: asked by who checks them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, func, or_, select

from cowherd.service.records.lineage import Claim
from cowherd.service.records.schema import blobs, images, lineage, places, tasks, uploads
from cowherd.service.records.states import ACTIVE, DEACTIVATED, IMPORTING, SAVING, UPLOADING
from cowherd.service.records.tasks import PENDING, PROCESSING, Task

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection


def is_empty(connection: Connection) -> bool:
    """Returns whether no image and no blob is recorded."""
    return all(connection.execute(select(func.count()).select_from(table)).scalar() == 0 for table in (images, blobs))


def stranded_images(connection: Connection) -> list[tuple[str, str]]:
    """Returns (id, status) of the images that wait for bytes which nothing and nobody brings."""
    coming = select(uploads.c.id).where(uploads.c.image_id == images.c.id).exists()
    worked_on = select(tasks.c.id).where(tasks.c.image_id == images.c.id, tasks.c.status.in_([PENDING, PROCESSING])).exists()
    waiting = or_(images.c.status.in_([SAVING, UPLOADING]), and_(images.c.status == IMPORTING, ~worked_on))
    rows = connection.execute(select(images.c.id, images.c.status).where(waiting, ~coming).order_by(images.c.id))
    return [(image_id, status) for image_id, status in rows]


def contentless_images(connection: Connection) -> list[str]:
    """Returns the ids of the images that are said to have content, but no store and no address is said to have it."""
    placed = select(places.c.store).where(places.c.blob == images.c.blob).exists()
    asked = select(images.c.id, images.c.locations).where(images.c.status.in_([ACTIVE, DEACTIVATED]), ~placed)
    return [image_id for image_id, locations in connection.execute(asked.order_by(images.c.id)) if not locations]


def lapsed_tasks(connection: Connection, moment: datetime) -> list[Task]:
    """Returns the tasks that are being worked on by a process that has not been heard of since `moment`."""
    asked = select(tasks).where(tasks.c.status == PROCESSING, tasks.c.leased_until < moment).order_by(tasks.c.id)
    return [Task(**row._asdict()) for row in connection.execute(asked)]


def loose_claims(connection: Connection) -> list[Claim]:
    """Returns the claims of overlays whose base is not known, or is another content than the claim says."""
    base = select(images.c.id).join(blobs, blobs.c.digest == images.c.blob)
    fits = base.where(images.c.id == lineage.c.base, blobs.c.content_digest == lineage.c.base_content).exists()
    return [Claim(**row._asdict()) for row in connection.execute(select(lineage).where(~fits).order_by(lineage.c.child))]
