"""Glance's records of images, in the form of ours."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import select

from cowherd.service.glance import tables
from cowherd.service.records.image import Image, Location
from cowherd.service.records.members import Member

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection, Row, Table

_PLAIN = (
    *("id", "name", "status", "visibility", "owner", "disk_format", "container_format", "checksum", "os_hash_algo"),
    *("os_hash_value", "size", "virtual_size"),
)
_OF_WORK = ("os_glance_import_task", "os_glance_stage_host", "os_glance_hash_op_host")
"""Properties that say which process of Glance's works on an image."""
_GONE = ("deleted", "pending_delete")


class GlanceImage(NamedTuple):
    """An image of Glance's: the record as ours would have it, but with Glance's state; its members; where its content lies."""

    record: Image
    members: tuple[Member, ...]
    locations: tuple[Location, ...]


class GlanceImages(NamedTuple):
    """The images, the eldest first, and the ids of those that were deleted and of which Glance still knows."""

    images: tuple[GlanceImage, ...]
    deleted: frozenset[str]


def read_images(connection: Connection) -> GlanceImages:
    """Reads all images from Glance's database."""
    facts = [
        _by_image(connection, table)
        for table in (tables.image_properties, tables.image_tags, tables.image_members, tables.image_locations)
    ]
    found: list[GlanceImage] = []
    deleted: set[str] = set()
    for row in connection.execute(select(tables.images).order_by(tables.images.c.created_at, tables.images.c.id)):
        if row.deleted or row.status in _GONE:
            deleted.add(row.id)
        else:
            found.append(_image_of(row, *(of_kind[row.id] for of_kind in facts)))
    return GlanceImages(tuple(found), frozenset(deleted))


def moment(value: datetime | None, otherwise: datetime | None = None) -> datetime:
    """Returns a time of Glance's, which is UTC without saying so."""
    found = value or otherwise
    return datetime.fromtimestamp(0, UTC) if found is None else found.replace(tzinfo=UTC)


def _by_image(connection: Connection, table: Table) -> dict[str, list[Row[Any]]]:
    found = defaultdict(list)
    for row in connection.execute(select(table)):
        if not row.deleted:
            found[row.image_id].append(row)
    return found


def _image_of(
    row: Row[Any], properties: Iterable[Row[Any]], tags: Iterable[Row[Any]], members: Iterable[Row[Any]], places: list[Row[Any]]
) -> GlanceImage:
    record = Image(
        **{name: getattr(row, name) for name in _PLAIN},
        protected=bool(row.protected),
        os_hidden=bool(row.os_hidden),
        min_disk=row.min_disk or 0,
        min_ram=row.min_ram or 0,
        created_at=moment(row.created_at),
        updated_at=moment(row.updated_at, row.created_at),
        properties={one.name: one.value or "" for one in properties if one.name not in _OF_WORK},
        tags=tuple(sorted({one.value for one in tags})),
    )
    active = sorted((one for one in places if one.status == "active"), key=lambda one: one.id)
    locations = tuple(Location(one.value, json.loads(one.meta_data or "null") or {}) for one in active)
    return GlanceImage(record, tuple(map(_member_of, members)), locations)


def _member_of(row: Row[Any]) -> Member:
    return Member(row.image_id, row.member, row.status, moment(row.created_at), moment(row.updated_at, row.created_at))
