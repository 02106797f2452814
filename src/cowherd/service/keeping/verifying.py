"""Verifies blobs: their bytes by their sums, and records what was found."""

from __future__ import annotations

from cowherd.progress import Progress
from cowherd.service.keeping.findings import note_damage, note_missing, note_whole
from cowherd.service.records.blobs import WHOLE
from cowherd.service.records.database import Database
from cowherd.service.records.places import Place
from cowherd.storage.identity import FileIdentity
from cowherd.storage.presence import GONE, look_up
from cowherd.storage.ticks import wait_for_tick
from cowherd.stores.directory import DirectoryStore
from cowherd.stores.faults import BlobMissing


def is_as_verified(store: DirectoryStore, place: Place) -> bool:
    """Returns whether a place was whole when it was verified last, and its file is the same since. Raises `HostFileError`."""
    return place.state == WHOLE and not has_changed(store, place)


def has_changed(store: DirectoryStore, place: Place) -> bool:
    """Returns whether a place has another file than it had when it was verified last, or none. Raises `HostFileError`."""
    return place.identity is None or identity_in(store, place.blob) != place.identity


def identity_in(store: DirectoryStore, digest: str) -> FileIdentity | None:
    """Returns the identity of the file of a blob, None if there is none. Raises `HostFileError`."""
    info = look_up(store.path(digest), follow=False, absent=GONE)
    return None if info is None else FileIdentity.from_stat(info)


def verify_place(
    database: Database,
    store: DirectoryStore,
    digest: str,
    how: str,
    *,
    rate: float | None = None,
    progress: Progress | None = None,
) -> bool:
    """Reads a blob in a store, records in what state it is, and returns whether it is whole.

    `rate` and `progress` are those of `DirectoryStore.verify`. If another file took its place meanwhile, nothing is recorded.
    Raises `HostFileError`, and what the records raise.
    """
    try:
        identity = None if identity_in(store, digest) is None else wait_for_tick(store.path(digest))[0]
        damage = () if identity is None else store.verify(digest, rate=rate, progress=progress)
    except BlobMissing:  # it vanished in between
        identity, damage = None, ()
    with store.locked(digest):
        if identity_in(store, digest) != identity:
            return False
        with database.write() as connection:
            if identity is None:
                note_missing(connection, digest, store.name, how)
            elif damage:
                note_damage(connection, digest, store.name, damage, how, identity)
            else:
                note_whole(connection, digest, store.name, how, identity)
    return identity is not None and not damage
