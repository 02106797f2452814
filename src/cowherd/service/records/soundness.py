"""How whole all that is stored is: what is damaged, and how far the verification is behind. Every count follows an index."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import and_, case, func, or_, select

from cowherd.service.records.blobs import DAMAGED, MISSING
from cowherd.service.records.facts import unindexed
from cowherd.service.records.image import Image, images_of, select_images
from cowherd.service.records.places import places_to_verify
from cowherd.service.records.schema import blobs, images, places
from cowherd.service.records.states import ACTIVE, DEACTIVATED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import ColumnElement, Connection, Select

_COUNTED_EXACTLY = 2000
_MOST_BAD = 200


class StoreState(msgspec.Struct, frozen=True, kw_only=True):
    """What a store is to have: so many `contents`, of which some are `damaged` or `missing`.

    `late` of those that are there were not verified since the moment that was asked for; `eldest` is when that was verified of
    which it is the longest ago, None if it never was, or there is nothing.
    """

    contents: int = 0
    damaged: int = 0
    missing: int = 0
    late: int = 0
    eldest: datetime | None = None


class Sums(msgspec.Struct, frozen=True):
    """How many `images` there are; the bytes that those with content have in sum (`named`), and those of the contents (`stored`).

    The contents are fewer bytes where images share one.
    """

    images: int
    named: int
    stored: int


def sums(connection: Connection) -> Sums:
    """Returns the sums of now."""
    count = connection.execute(select(func.count()).select_from(images)).scalar_one()
    named = select(func.coalesce(func.sum(images.c.size), 0)).where(unindexed(images.c.blob).is_not(None))
    stored = select(func.coalesce(func.sum(blobs.c.size), 0))
    return Sums(count, int(connection.execute(named).scalar_one()), int(connection.execute(stored).scalar_one()))


def store_states(connection: Connection, stores: Iterable[str], before: datetime) -> dict[str, StoreState]:
    """Returns the state of each store; `late` is what was not verified since `before`."""
    count = select(places.c.store, func.count()).group_by(places.c.store)
    contents, late = _by_store(connection, count), _by_store(connection, count.where(_late(before)))
    bad = select(places.c.store, places.c.state, func.count()).where(_is_bad()).group_by(places.c.store, places.c.state)
    found = {(store, state): number for store, state, number in connection.execute(bad)}
    # What is missing can't be verified, and is not late.
    lost = _by_store(connection, count.where(places.c.state == MISSING, _late_row(before)))
    return {
        name: StoreState(
            contents=contents.get(name, 0),
            damaged=found.get((name, DAMAGED), 0),
            missing=found.get((name, MISSING), 0),
            late=late.get(name, 0) - lost.get(name, 0),
            eldest=next((one.verified_at for one in places_to_verify(connection, name, 1)), None),
        )
        for name in stores
    }


def late_bytes(connection: Connection, before: datetime, late: int) -> tuple[int, bool]:
    """Returns the bytes of all that was not verified since `before`, `late` contents, and whether that is exact.

    Many are not added up one by one.
    """
    # The keys come from the index alone; only of those few that are added up the rows are read.
    keys = select(places.c.blob, places.c.store).where(_late(before)).limit(_COUNTED_EXACTLY + 1).subquery()
    rows = keys.join(places, and_(places.c.blob == keys.c.blob, places.c.store == keys.c.store))
    there = case((places.c.state != MISSING, 1), else_=0)
    asked = select(func.count(), func.coalesce(func.sum(there), 0), func.coalesce(func.sum(there * blobs.c.size), 0))
    looked_at, count, size = connection.execute(asked.select_from(rows.join(blobs, blobs.c.digest == places.c.blob))).one()
    is_exact = looked_at <= _COUNTED_EXACTLY
    return int(size) if is_exact or not count else int(size) * late // int(count), is_exact


def bad_images(connection: Connection, limit: int, *, owner: str | None = None) -> list[Image]:
    """Returns at most `limit` images whose content is not whole everywhere, the latest first.

    With `owner` only that project's.
    """
    asked = select_images().order_by(images.c.created_at.desc(), images.c.id.desc()).limit(limit)
    if owner is None:
        # A store that is gone makes all that it had missing: not all of that is looked through.
        first = select(places.c.blob).where(_is_bad()).limit(_MOST_BAD).subquery()
        asked = asked.where(images.c.blob.in_(select(first.c.blob)))
    else:
        bad = select(places.c.blob).where(places.c.blob == images.c.blob, unindexed(places.c.state).in_([DAMAGED, MISSING]))
        asked = asked.where(images.c.owner == owner, unindexed(images.c.status).in_([ACTIVE, DEACTIVATED]), bad.exists())
    return images_of(connection.execute(asked))


def _by_store(connection: Connection, asked: Select[Any]) -> dict[str, int]:
    return {row[0]: row[1] for row in connection.execute(asked)}


def _is_bad() -> ColumnElement[bool]:
    return places.c.state.in_([DAMAGED, MISSING])


def _late(before: datetime) -> ColumnElement[bool]:
    return or_(places.c.verified_at.is_(None), places.c.verified_at < before)


def _late_row(before: datetime) -> ColumnElement[bool]:
    """Returns the same as `_late`, for rows that another index leads to."""
    verified = unindexed(places.c.verified_at)
    return or_(verified.is_(None), verified < before)
