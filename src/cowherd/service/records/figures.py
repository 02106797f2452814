"""Figures of the whole service at one moment, for those who watch over it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import func, select

from cowherd.service.records.blobs import MISSING
from cowherd.service.records.schema import blobs, images, places, tasks, uploads

if TYPE_CHECKING:
    from sqlalchemy import Column, Connection


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """How much there is; sizes are bytes.

    `images` and `tasks` are counted by their states, `uploads` by their kinds, `places` by stores and states. `named` is what the
    images have in sum, `stored` what their blobs have, which is less where images share one. `least_verified` gives by stores
    when that content was verified of which it is the longest ago; None if some of it never was. `overdue` counts by stores the
    contents that were due to be verified before now.
    """

    images: dict[str, int]
    tasks: dict[str, int]
    uploads: dict[str, int]
    places: dict[tuple[str, str], int]
    named: int
    stored: int
    least_verified: dict[str, datetime | None]
    overdue: dict[str, int]


def figures(connection: Connection, due: datetime) -> Figures:
    """Returns the figures of now. What was verified before `due`, or never, is overdue."""
    per_place = select(places.c.store, places.c.state, func.count()).group_by(places.c.store, places.c.state)
    return Figures(
        images=_counts(connection, images.c.status),
        tasks=_counts(connection, tasks.c.status),
        uploads=_counts(connection, uploads.c.kind),
        places={(store, state): count for store, state, count in connection.execute(per_place)},
        named=_sum(connection, images.c.size),
        stored=_sum(connection, blobs.c.size),
        least_verified=_least_verified(connection),
        overdue=_overdue(connection, due),
    )


def _counts(connection: Connection, column: Column[str]) -> dict[str, int]:
    return {row[0]: row[1] for row in connection.execute(select(column, func.count()).group_by(column))}


def _sum(connection: Connection, column: Column[int]) -> int:
    return int(connection.execute(select(func.coalesce(func.sum(column), 0))).scalar_one())


def _least_verified(connection: Connection) -> dict[str, datetime | None]:
    there = places.c.state != MISSING
    counted = func.count(places.c.verified_at) == func.count()
    asked = select(places.c.store, func.min(places.c.verified_at), counted).where(there).group_by(places.c.store)
    return {store: moment if whole else None for store, moment, whole in connection.execute(asked)}


def _overdue(connection: Connection, due: datetime) -> dict[str, int]:
    late = (places.c.state != MISSING) & (places.c.verified_at.is_(None) | (places.c.verified_at < due))
    asked = select(places.c.store, func.count()).where(late).group_by(places.c.store)
    return {store: count for store, count in connection.execute(asked)}  # noqa: C416  # rows are no pairs to the type checker
