"""Images: made, read, changed, and deleted, each as one step of a transaction of the caller's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from cowherd.service.records import states
from cowherd.service.records.faults import ImageChanged, ImageExists, ImageNotFound, StatusConflict
from cowherd.service.records.image import COLUMNS, Image, Location, images_of, now
from cowherd.service.records.schema import blobs, images, locations, properties, tags

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy import Connection

_ONE = select(images).where(images.c.id == bindparam("image_id"))
_KEPT = frozenset({"id", "status", "created_at", "updated_at", "version", "blob"})
_CHANGED = [name for name in COLUMNS if name not in _KEPT]


def create_image(connection: Connection, image: Image) -> None:
    """Records a new image, with its properties, tags and locations. Raises `ImageExists` if its id is taken, `Unstorable`."""
    taken = connection.execute(select(images.c.id).where(images.c.id == image.id)).first()
    if taken is not None:
        raise ImageExists(image.id)
    try:
        connection.execute(insert(images), {name: getattr(image, name) for name in COLUMNS})
    except IntegrityError as error:  # two at once, which only PostgreSQL lets come so far
        raise ImageExists(image.id) from error
    _write_properties(connection, image.id, image.created_at, image.properties)
    _write_tags(connection, image.id, image.created_at, image.tags)
    _write_locations(connection, image.id, image.locations)


def read_image(connection: Connection, image_id: str) -> Image:
    """Returns the image `image_id`; whether the caller may see it is policy's to say. Raises `ImageNotFound`."""
    rows = connection.execute(_ONE, {"image_id": image_id}).all()
    if not rows:
        raise ImageNotFound(image_id)
    return images_of(connection, rows)[0]


def update_image(connection: Connection, image: Image) -> Image:
    """Records `image`, which was read at its `version`, as it has become since then; returns it with its new version.

    Everything is written but `id`, `status`, `created_at`, `blob`, `stores` and the lineage, which have functions of their own.
    Raises `ImageChanged` if another request changed it since it was read, `ImageNotFound`, `Unstorable`.
    """
    before = read_image(connection, image.id)
    values = {name: getattr(image, name) for name in _CHANGED}
    guarded = update(images).where(images.c.id == image.id, images.c.version == image.version)
    done = connection.execute(guarded.values(**values, version=image.version + 1, updated_at=now()))
    if done.rowcount == 0:
        raise ImageChanged(image.id, image.version)
    _replace_properties(connection, before, image.properties)
    _replace_tags(connection, before, image.tags)
    if image.locations != before.locations:
        connection.execute(delete(locations).where(locations.c.image_id == image.id))
        _write_locations(connection, image.id, image.locations)
    return read_image(connection, image.id)


def change_status(connection: Connection, image_id: str, allowed: Collection[str], target: str, **columns: Any) -> None:
    """Makes an image `target` if it is in one of the states `allowed`, and sets `columns` of its row with it, all at once.

    Of two that try it, one does. Raises `StatusConflict` if the image is in another state, or in one that `target` may not
    follow; `ImageNotFound`.
    """
    possible = states.sources(target).intersection(allowed)
    guarded = update(images).where(images.c.id == image_id, images.c.status.in_(sorted(possible)))
    done = connection.execute(guarded.values(**columns, status=target, version=images.c.version + 1, updated_at=now()))
    if done.rowcount == 0:
        raise StatusConflict(image_id, status_of(connection, image_id), target)


def status_of(connection: Connection, image_id: str) -> str:
    """Returns the state of an image. Raises `ImageNotFound`."""
    status: str | None = connection.execute(select(images.c.status).where(images.c.id == image_id)).scalar()
    if status is None:
        raise ImageNotFound(image_id)
    return status


def delete_image(connection: Connection, image_id: str) -> None:
    """Deletes the record of an image, and all that only it has. Its blob's bytes stay: see `blobs.unused`.

    Raises `ImageNotFound`.
    """
    blob = connection.execute(select(images.c.blob).where(images.c.id == image_id)).first()
    done = connection.execute(delete(images).where(images.c.id == image_id))
    if blob is None or done.rowcount == 0:
        raise ImageNotFound(image_id)
    if blob[0] is not None:
        note_unused(connection, blob[0])


def note_unused(connection: Connection, digest: str) -> None:
    """Notes the moment on a blob if no image has it any more."""
    had = select(images.c.id).where(images.c.blob == digest).exists()
    connection.execute(update(blobs).where(blobs.c.digest == digest, ~had).values(unused_since=now()))


def _replace_tags(connection: Connection, before: Image, wanted: Collection[str]) -> None:
    gone = set(before.tags).difference(wanted)
    if gone:
        connection.execute(delete(tags).where(tags.c.image_id == before.id, tags.c.tag.in_(sorted(gone))))
    _write_tags(connection, before.id, before.created_at, set(wanted).difference(before.tags))


def _write_tags(connection: Connection, image_id: str, created_at: datetime, added: Collection[str]) -> None:
    if added:
        rows = [{"image_id": image_id, "tag": tag, "created_at": created_at} for tag in sorted(set(added))]
        connection.execute(insert(tags), rows)


def _replace_properties(connection: Connection, before: Image, wanted: dict[str, str]) -> None:
    gone = [name for name, value in before.properties.items() if wanted.get(name) != value]
    if gone:
        connection.execute(delete(properties).where(properties.c.image_id == before.id, properties.c.name.in_(gone)))
    added = {name: value for name, value in wanted.items() if before.properties.get(name) != value}
    _write_properties(connection, before.id, before.created_at, added)


def _write_properties(connection: Connection, image_id: str, created_at: datetime, added: dict[str, str]) -> None:
    if added:
        rows = [{"image_id": image_id, "name": name, "value": added[name], "created_at": created_at} for name in added]
        connection.execute(insert(properties), rows)


def _write_locations(connection: Connection, image_id: str, added: Collection[Location]) -> None:
    if added:
        rows = [{"image_id": image_id, "position": at, "url": one.url, "metadata": one.metadata} for at, one in enumerate(added)]
        connection.execute(insert(locations), rows)
