"""Records what was found out about a blob in a store, and tells its images and the events when that is news."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from cowherd.service import counting
from cowherd.service.records.blobs import DAMAGED, MISSING, WHOLE, images_with_blob
from cowherd.service.records.events import Event, record_event
from cowherd.service.records.images import note_reason
from cowherd.service.records.places import Place, place_of, places_of, record_damage, record_missing, record_verified
from cowherd.stores.checking import Damage
from cowherd.text import printable

if TYPE_CHECKING:
    from sqlalchemy import Connection

_MOST_RANGES = 5


def note_whole(connection: Connection, digest: str, store: str, how: str, identity: Sequence[int]) -> None:
    """Records that a store has a blob whole, in the file with this identity; `how` says how that was found out."""
    before = place_of(connection, digest, store)
    record_verified(connection, digest, store, how, identity)
    if before is not None and before.state != WHOLE:
        counting.add(counting.REPAIRED, store)
        _tell(connection, digest, "blob.whole", store=store, how=how, damage=[list(one) for one in before.damage])


def note_damage(
    connection: Connection, digest: str, store: str, damage: Damage, how: str, identity: Sequence[int] | None = None
) -> None:
    """Records that a store has a blob with damage in the ranges (start, end), in the file with this identity."""
    before = place_of(connection, digest, store)
    record_damage(connection, digest, store, damage, how, identity)
    if before is not None and (before.state, before.damage) != (DAMAGED, damage):
        counting.add(counting.DAMAGED, store)
        _tell(connection, digest, "blob.damaged", store=store, how=how, damage=[list(one) for one in damage])


def note_missing(connection: Connection, digest: str, store: str, how: str) -> None:
    """Records that a store does not have a blob that it should have."""
    before = place_of(connection, digest, store)
    record_missing(connection, digest, store, how)
    if before is not None and before.state != MISSING:
        counting.add(counting.MISSING, store)
        _tell(connection, digest, "blob.missing", store=store, how=how)


def _tell(connection: Connection, digest: str, action: str, **detail: object) -> None:
    """Records an event of each image that has a blob, and has the images say what is wrong with it now."""
    had_by: list[str | None] = [*images_with_blob(connection, digest)]
    for image_id in had_by or [None]:
        record_event(connection, Event(action=action, image_id=image_id, detail={"blob": digest, **detail}))
    note_reason(connection, digest, problem_of(places_of(connection, digest)))


def problem_of(places: Iterable[Place]) -> str | None:
    """Returns what is wrong with a blob that is in these places, and what to do, as a sentence; None if nothing is."""
    found = list(places)
    bad = [one for one in found if one.state != WHOLE]
    if not bad:
        return None
    where = "; ".join(f"in the store '{printable(one.store)}' {_what(one)}" for one in bad)
    if len(bad) < len(found):
        return f"The content of the image is not whole everywhere: {where}. It is repaired from another store"
    return f"The content of the image is damaged: {where}. Upload the same content again, or restore the file from a backup"


def _what(place: Place) -> str:
    if place.state == MISSING:
        return "it is missing"
    more = f" and {len(place.damage) - _MOST_RANGES} more ranges" if len(place.damage) > _MOST_RANGES else ""
    return (
        "bytes " + ", ".join(f"{start}-{end - 1}" for start, end in place.damage[:_MOST_RANGES]) + more + " are not as they were"
    )
