"""The record of an image, and how it is read from the tables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from sqlalchemy import func, select

from cowherd.service.records.faults import DatabaseDamaged
from cowherd.service.records.schema import images, lineage, places
from cowherd.service.records.states import QUEUED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import FromClause, Select

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""A moment with a time zone, also where a record is read from JSON."""


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
    created_at: Moment = msgspec.field(default_factory=now)
    updated_at: Moment = msgspec.field(default_factory=now)
    version: int = 1
    reason: str | None = None
    blob: str | None = None
    properties: dict[str, str] = {}
    tags: tuple[str, ...] = ()
    locations: tuple[Location, ...] = ()
    stores: tuple[str, ...] = ()
    base: str | None = None
    base_content: str | None = None


COLUMNS = [column.name for column in images.columns]
"""The fields of `Image` that lie in its own row."""

_SEPARATOR = ","  # no store's name holds one: the Image API lists stores like this
_STORES = (
    select(func.aggregate_strings(places.c.store, _SEPARATOR))
    .where(places.c.blob == images.c.blob)
    .scalar_subquery()
    .label("stores")
)
_FIELDS = [*images.columns, lineage.c.base, lineage.c.base_content, _STORES]
_NAMES = [*COLUMNS, "base", "base_content", "stores"]


def select_images(source: FromClause = images) -> Select[Any]:
    """Returns a query of all that makes an `Image`, of `source`: the table `images`, or a join with it."""
    return select(*_FIELDS).select_from(source.outerjoin(lineage, lineage.c.child == images.c.id))


def images_of(rows: Iterable[Sequence[Any]]) -> list[Image]:
    """Returns the images of the rows that a query of `select_images` found."""
    return [_image_of(dict(zip(_NAMES, row, strict=True))) for row in rows]


def row_of(image: Image) -> dict[str, Any]:
    """Returns what the table `images` holds of an image."""
    row = {name: getattr(image, name) for name in COLUMNS}
    row["tags"] = sorted(set(image.tags))
    row["locations"] = [[one.url, one.metadata] for one in image.locations]
    return row


def _image_of(fields: dict[str, Any]) -> Image:
    """Returns the image of a row. Raises `DatabaseDamaged` if the row is none of an image."""
    try:
        fields["tags"] = tuple(fields["tags"])
        fields["locations"] = tuple(Location(url, metadata) for url, metadata in fields["locations"])
    except (TypeError, ValueError) as error:
        raise DatabaseDamaged(f"the record of the image {fields['id']!a} makes no sense") from error
    if not isinstance(fields["properties"], dict) or not isinstance(fields["size"], int | None):
        raise DatabaseDamaged(f"the record of the image {fields['id']!a} makes no sense")
    fields["stores"] = tuple(sorted(fields["stores"].split(_SEPARATOR))) if fields["stores"] else ()
    return Image(**fields)
