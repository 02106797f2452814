"""Figures of the whole service at one moment, for those who watch over it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import func, select

from cowherd.service.records import soundness
from cowherd.service.records.schema import images, tasks, uploads

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Column, Connection


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """How much there is: `images` and `tasks` by state, `uploads` by kind, the `sums`, and how whole each store is."""

    images: dict[str, int]
    tasks: dict[str, int]
    uploads: dict[str, int]
    sums: soundness.Sums
    stores: dict[str, soundness.StoreState]


def figures(connection: Connection, stores: Iterable[str], due: datetime) -> Figures:
    """Returns the figures of now. What was verified before `due`, or never, is late."""
    return Figures(
        images=_counts(connection, images.c.status),
        tasks=_counts(connection, tasks.c.status),
        uploads=_counts(connection, uploads.c.kind),
        sums=soundness.sums(connection),
        stores=soundness.store_states(connection, stores, due),
    )


def _counts(connection: Connection, column: Column[str]) -> dict[str, int]:
    return {row[0]: row[1] for row in connection.execute(select(column, func.count()).group_by(column))}
