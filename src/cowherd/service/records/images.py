"""Images: made, read, changed, and deleted, each as one step of a transaction of the caller's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace
from sqlalchemy import bindparam, delete, insert, select, update

from cowherd.service.records import states
from cowherd.service.records.faults import ImageChanged, ImageExists, ImageNotFound, StatusConflict
from cowherd.service.records.image import Image, images_of, now, row_of, select_images
from cowherd.service.records.schema import blobs, images, properties, tags

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection

_ONE = select_images().where(images.c.id == bindparam("image_id"))
_KEPT = frozenset({"id", "status", "created_at", "updated_at", "version", "blob"})


def create_image(connection: Connection, image: Image) -> None:
    """Records a new image, with its properties, tags and locations. Raises `ImageExists` if its id is taken, `Unstorable`."""
    if is_known(connection, image.id):
        raise ImageExists(image.id)
    connection.execute(insert(images), row_of(image))
    _note_facts(connection, image)


def is_known(connection: Connection, image_id: str) -> bool:
    """Tells whether there is an image `image_id`."""
    return connection.execute(select(images.c.id).where(images.c.id == image_id)).first() is not None


def read_image(connection: Connection, image_id: str) -> Image:
    """Returns the image `image_id`; whether the caller may see it is policy's to say. Raises `ImageNotFound`."""
    rows = connection.execute(_ONE, {"image_id": image_id}).all()
    if not rows:
        raise ImageNotFound(image_id)
    return images_of(rows)[0]


def update_image(connection: Connection, image: Image) -> Image:
    """Records `image`, which was read at its `version`, as it has become since then; returns it with its new version.

    Everything is written but `id`, `status`, `created_at`, `blob`, `stores` and the lineage, which have functions of their own.
    Raises `ImageChanged` if another request changed it since it was read, `ImageNotFound`, `Unstorable`.
    """
    before = read_image(connection, image.id)
    values = {name: value for name, value in row_of(image).items() if name not in _KEPT}
    guarded = update(images).where(images.c.id == image.id, images.c.version == image.version)
    done = connection.execute(guarded.values(**values, version=image.version + 1, updated_at=now()))
    if done.rowcount == 0:
        raise ImageChanged(image.id, image.version)
    if (image.tags, image.properties) != (before.tags, before.properties):
        _forget_facts(connection, before)
        _note_facts(connection, replace(image, created_at=before.created_at))
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


def note_reason(connection: Connection, digest: str, reason: str | None) -> None:
    """Has the images that have a blob say what is wrong with it, or with None that nothing is any more."""
    connection.execute(update(images).where(images.c.blob == digest).values(reason=reason))


def status_of(connection: Connection, image_id: str) -> str:
    """Returns the state of an image. Raises `ImageNotFound`."""
    status: str | None = connection.execute(select(images.c.status).where(images.c.id == image_id)).scalar()
    if status is None:
        raise ImageNotFound(image_id)
    return status


def note_size(connection: Connection, image_id: str, size: int) -> None:
    """Notes how many bytes came for an image that wait to be imported."""
    connection.execute(update(images).where(images.c.id == image_id).values(size=size))


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


def _note_facts(connection: Connection, image: Image) -> None:
    """Makes an image's tags and properties findable."""
    row = {"image_id": image.id, "created_at": image.created_at}
    if image.tags:
        connection.execute(insert(tags), [{**row, "tag": tag} for tag in sorted(set(image.tags))])
    if image.properties:
        connection.execute(insert(properties), [{**row, "name": k, "value": v} for k, v in image.properties.items()])


def _forget_facts(connection: Connection, image: Image) -> None:
    for table in (tags, properties):
        connection.execute(delete(table).where(table.c.image_id == image.id))
