"""The record of an image, and how it is put together from the tables: its own row, and what it has in others."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from sqlalchemy import bindparam, select

from cowherd.service.records.schema import images, lineage, locations, places, properties, tags
from cowherd.service.records.states import QUEUED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import BindParameter, Connection, Row


def now() -> datetime:
    """Returns the moment that a record gets which is made or changed now."""
    return datetime.now(UTC)


class Location(msgspec.Struct, frozen=True):
    """An address outside the stores where an image's bytes are."""

    url: str
    metadata: dict[str, Any] = {}


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an image, by the names of the Image API; sizes are in bytes, `min_ram` in MiB, `min_disk` in GiB.

    `version` counts the changes. `reason` is a sentence about what failed last, or None. `blob` is the BLAKE3 digest of the
    image's bytes, `stores` are those that have them. `base` is the id of the image that it is an overlay of, if known, and
    `base_content` that one's content digest.
    """

    id: str
    name: str | None = None
    status: str = QUEUED
    visibility: str = "shared"
    protected: bool = False
    os_hidden: bool = False
    owner: str | None = None
    checksum: str | None = None
    os_hash_algo: str | None = None
    os_hash_value: str | None = None
    size: int | None = None
    virtual_size: int | None = None
    container_format: str | None = None
    disk_format: str | None = None
    min_ram: int = 0
    min_disk: int = 0
    created_at: datetime = msgspec.field(default_factory=now)
    updated_at: datetime = msgspec.field(default_factory=now)
    version: int = 1
    reason: str | None = None
    blob: str | None = None
    properties: dict[str, str] = {}
    tags: tuple[str, ...] = ()
    locations: tuple[Location, ...] = ()
    stores: tuple[str, ...] = ()
    base: str | None = None
    base_content: str | None = None


class Parts(NamedTuple):
    """What images have in other tables than `images`, by the image's id."""

    properties: dict[str, dict[str, str]]
    tags: dict[str, list[str]]
    locations: dict[str, list[Location]]
    stores: dict[str, list[str]]
    bases: dict[str, tuple[str | None, str]]


COLUMNS = [column.name for column in images.columns]
"""The fields of `Image` that lie in its own row."""

_IDS: BindParameter[Any] = bindparam("ids", expanding=True)
_PROPERTIES = select(properties.c.image_id, properties.c.name, properties.c.value).where(properties.c.image_id.in_(_IDS))
_TAGS = select(tags.c.image_id, tags.c.tag).where(tags.c.image_id.in_(_IDS)).order_by(tags.c.image_id, tags.c.tag)
_LOCATIONS = (
    select(locations.c.image_id, locations.c.url, locations.c.metadata)
    .where(locations.c.image_id.in_(_IDS))
    .order_by(locations.c.image_id, locations.c.position)
)
_PLACES = select(places.c.blob, places.c.store).where(places.c.blob.in_(_IDS)).order_by(places.c.blob, places.c.store)
_BASES = select(lineage.c.child, lineage.c.base, lineage.c.base_content).where(lineage.c.child.in_(_IDS))


def images_of(connection: Connection, rows: Sequence[Row[Any]]) -> list[Image]:
    """Returns the images of rows of the table `images`, in their order: one query for each table, however many they are."""
    if not rows:
        return []
    fields = [row._asdict() for row in rows]
    parts = _parts(connection, [one["id"] for one in fields], {one["blob"] for one in fields if one["blob"]})
    return [_image_of(one, parts) for one in fields]


def _image_of(fields: dict[str, Any], parts: Parts) -> Image:
    image_id = fields["id"]
    base, base_content = parts.bases.get(image_id, (None, None))
    return Image(
        **fields,
        properties=parts.properties.get(image_id, {}),
        tags=tuple(parts.tags.get(image_id, ())),
        locations=tuple(parts.locations.get(image_id, ())),
        stores=tuple(parts.stores.get(fields["blob"], ())),
        base=base,
        base_content=base_content,
    )


def _parts(connection: Connection, ids: list[str], blobs: set[str]) -> Parts:
    parts = Parts({}, {}, {}, {}, {})
    for image_id, name, value in connection.execute(_PROPERTIES, {"ids": ids}):
        parts.properties.setdefault(image_id, {})[name] = value
    for image_id, url, metadata in connection.execute(_LOCATIONS, {"ids": ids}):
        parts.locations.setdefault(image_id, []).append(Location(url, metadata))
    for image_id, base, content in connection.execute(_BASES, {"ids": ids}):
        parts.bases[image_id] = base, content
    _group(connection.execute(_TAGS, {"ids": ids}), parts.tags)
    if blobs:
        _group(connection.execute(_PLACES, {"ids": list(blobs)}), parts.stores)
    return parts


def _group(rows: Iterable[Any], groups: dict[str, list[str]]) -> None:
    for key, value in rows:
        groups.setdefault(key, []).append(value)
