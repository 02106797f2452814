"""Places: which store has which blob, in what state, and when that was verified."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import delete, nulls_first, or_, select, update

from cowherd.service.records.blobs import DAMAGED, MISSING, WHOLE
from cowherd.service.records.image import now
from cowherd.service.records.schema import places

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from sqlalchemy import Connection, Select


class Place(msgspec.Struct, frozen=True):
    """A blob in a store; `damage` holds (start, end) in bytes of the file, half-open, where the state is "damaged".

    `identity` is that of the file as it was verified last (device, inode, size, mtime, ctime), None if that is not known.
    """

    blob: str
    store: str
    state: str
    verified_at: datetime | None
    verified_how: str | None
    damage: tuple[tuple[int, int], ...] = ()
    identity: tuple[int, ...] | None = None


def places_of(connection: Connection, digest: str) -> list[Place]:
    """Returns where a blob is, by the stores' names."""
    return _read(connection, select(places).where(places.c.blob == digest).order_by(places.c.store))


def places_of_all(connection: Connection, digests: Collection[str]) -> dict[str, list[Place]]:
    """Returns where blobs are, by their digests; each as `places_of` does."""
    found: dict[str, list[Place]] = {}
    for one in _read(
        connection, select(places).where(places.c.blob.in_(sorted(digests))).order_by(places.c.blob, places.c.store)
    ):
        found.setdefault(one.blob, []).append(one)
    return found


def place_of(connection: Connection, digest: str, store: str) -> Place | None:
    """Returns the place of a blob in a store, None if it is not to be there."""
    return next((one for one in places_of(connection, digest) if one.store == store), None)


def places_in(connection: Connection, store: str, *, after: str = "", limit: int = 1000) -> list[Place]:
    """Returns the places in a store by their digests, those after `after`, at most `limit`."""
    asked = select(places).where(places.c.store == store, places.c.blob > after).order_by(places.c.blob)
    return _read(connection, asked.limit(limit))


def places_to_verify(connection: Connection, store: str, limit: int, before: datetime | None = None) -> list[Place]:
    """Returns the places in a store whose last verification is the longest ago, at most `limit`; missing ones are left out.

    With `before` those that were verified since that moment are left out too.
    """
    asked = select(places).where(places.c.store == store, places.c.state != MISSING)
    if before is not None:
        asked = asked.where(or_(places.c.verified_at.is_(None), places.c.verified_at < before))
    return _read(connection, asked.order_by(nulls_first(places.c.verified_at.asc()), places.c.blob).limit(limit))


def bad_places(connection: Connection) -> list[Place]:
    """Returns the places that are damaged or missing."""
    asked = select(places).where(places.c.state.in_([DAMAGED, MISSING])).order_by(places.c.blob, places.c.store)
    return _read(connection, asked)


def record_verified(connection: Connection, digest: str, store: str, how: str, identity: Sequence[int]) -> None:
    """Records that a store has a blob whole, as was seen now in the file with this identity; `how` says in which way."""
    _record(connection, digest, store, how, state=WHOLE, identity=list(identity))


def record_damage(
    connection: Connection,
    digest: str,
    store: str,
    damage: Iterable[tuple[int, int]],
    how: str,
    identity: Sequence[int] | None = None,
) -> None:
    """Records that a store has a blob with damage in the ranges (start, end), as was seen now in the file with this identity."""
    seen = None if identity is None else list(identity)
    _record(connection, digest, store, how, state=DAMAGED, damage=[list(one) for one in damage], identity=seen)


def record_missing(connection: Connection, digest: str, store: str, how: str) -> None:
    """Records that a store should have a blob and does not, as was seen now."""
    _record(connection, digest, store, how, state=MISSING)


def forget_place(connection: Connection, digest: str, store: str) -> bool:
    """Records that a store is not to have a blob any more; tells whether it was to."""
    return connection.execute(delete(places).where(places.c.blob == digest, places.c.store == store)).rowcount == 1


def _record(connection: Connection, digest: str, store: str, how: str, **facts: Any) -> None:
    values = {"damage": None, "identity": None, **facts, "verified_at": now(), "verified_how": how}
    connection.execute(update(places).where(places.c.blob == digest, places.c.store == store).values(values))


def _read(connection: Connection, asked: Select[tuple[object, ...]]) -> list[Place]:
    found = []
    for row in connection.execute(asked):
        damage = tuple((start, end) for start, end in row.damage or ())
        identity = None if row.identity is None else tuple(row.identity)
        found.append(Place(row.blob, row.store, row.state, row.verified_at, row.verified_how, damage, identity))
    return found
