"""Copies of what was adopted, in further stores.

The event that is recorded with an image names them, so that a later run makes those that a run which was killed did not come to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cowherd.service.records.events import Event, list_events, record_event
from cowherd.service.records.places import place_of
from cowherd.service.tasks.copying import copy_blob
from cowherd.stores.faults import BlobMissing

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from cowherd.service.records.database import Database
    from cowherd.service.records.image import Image
    from cowherd.stores.directory import DirectoryStore

ADOPTED, COPIED = "image.adopt", "image.copy"
"""The actions of the events that tell of an adoption, and of one of these copies."""
_STORES, _STORE = "stores", "store"


def to_be_made(names: Sequence[str]) -> dict[str, Any]:
    """Returns what the event of an adoption says of the stores that are to have copies."""
    return {_STORES: list(names)} if names else {}


def left_to_make(connection: Connection, image_id: str) -> list[str]:
    """Returns the stores that are to have a copy of an adopted image, and got none. One that was deleted since was made."""
    told = list_events(connection, image_id=image_id, actions=(ADOPTED, COPIED))
    named: list[str] = next((event.detail.get(_STORES, []) for event in told if event.action == ADOPTED), [])
    made = {event.detail[_STORE] for event in told if event.action == COPIED}
    return [name for name in named if name not in made]


def make_copies(database: Database, stores: Mapping[str, DirectoryStore], image: Image, names: Sequence[str]) -> None:
    """Copies the content of an image to the stores of these names that do not have it, and records that each has.

    Raises `BlobMissing` if no store has it, `SourceDamaged`, `HostFileError`, and what the records raise.
    """
    digest = image.blob or ""
    for name in names:
        with database.read() as connection:
            has_it = place_of(connection, digest, name) is not None
        if not has_it:
            copy_blob(database, _source(stores, image, digest), stores[name], digest)
        with database.write() as connection:
            detail = {_STORE: name, "blob": digest}
            record_event(connection, Event(action=COPIED, project=image.owner, image_id=image.id, detail=detail))


def _source(stores: Mapping[str, DirectoryStore], image: Image, digest: str) -> DirectoryStore:
    for name in image.stores:
        if name in stores:
            return stores[name]
    raise BlobMissing(", ".join(image.stores), digest)
