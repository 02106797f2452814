"""Deletes what nobody needs any more: bytes that no image has, blobs that no record names, old events and tasks.

An image's record is deleted first, and its bytes here, after a while. Bytes go inside the transaction that forgets them, and with
the lock under which they would be adopted: an upload of the same bytes finds them there, or stores its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import NamedTuple

from cowherd.errors import HostFileError
from cowherd.service.records.blobs import forget_blob, unused_blobs
from cowherd.service.records.database import Database
from cowherd.service.records.events import forget_events
from cowherd.service.records.image import now
from cowherd.service.records.places import place_of, places_in
from cowherd.service.records.tasks import forget_tasks
from cowherd.storage.presence import GONE, look_up
from cowherd.stores.directory import DirectoryStore

ORPHAN_GRACE = timedelta(days=1)
"""How long a blob stays that no record names: it may be all that is left of records that were lost."""
EVENTS_KEPT = timedelta(days=90)
_BATCH = 100
_log = logging.getLogger("cowherd.service")


class Reaped(NamedTuple):
    """How many were deleted: blobs that no image had, and events and tasks whose time was over."""

    blobs: int
    events: int
    tasks: int


def reap(database: Database, stores: Mapping[str, DirectoryStore], grace: timedelta) -> Reaped:
    """Deletes the blobs that no image has had for `grace`, and old events and tasks.

    A store that refuses keeps its blob, and the records of it, until the next time; the log says so. Raises what the records
    raise.
    """
    with database.read() as connection:
        unused = unused_blobs(connection, now() - grace, _BATCH)
    blobs = sum(_deletes_blob(database, stores, digest) for digest in unused)
    with database.write() as connection:
        return Reaped(blobs, forget_events(connection, now() - EVENTS_KEPT), forget_tasks(connection, now()))


def _deletes_blob(database: Database, stores: Mapping[str, DirectoryStore], digest: str) -> bool:
    """Deletes a blob unless an image has it again; returns whether it is gone."""
    try:
        with _locked_everywhere(stores, digest), database.write() as connection:
            held = [stores[name] for name in stores if place_of(connection, digest, name)]
            if not forget_blob(connection, digest):
                return False
            for store in held:
                store.remove(digest)
        return True
    except HostFileError as error:
        _log.error("blob %s stays: %s", digest, error)
        return False


@contextlib.contextmanager
def _locked_everywhere(stores: Mapping[str, DirectoryStore], digest: str) -> Iterator[None]:
    """Locks a blob in all stores, always in the same order, so that two who do so can't wait for each other."""
    with contextlib.ExitStack() as stack:
        for name in sorted(stores):
            stack.enter_context(stores[name].locked(digest))
        yield


def orphans(database: Database, store: DirectoryStore, grace: timedelta = ORPHAN_GRACE) -> list[str]:
    """Returns the digests of the blobs in a store that no record places there, and that have lain there for `grace` or longer.

    Raises `HostFileError`, and what the records raise.
    """
    found = list(store.digests())  # before the records are asked: what becomes a blob meanwhile is recorded then, or locked
    known = _placed(database, store)
    loose = [digest for digest in found if digest not in known and _is_older(store, digest, grace)]
    return [digest for digest in loose if not _is_placed(database, store, digest)]


def delete_orphans(database: Database, store: DirectoryStore, grace: timedelta = ORPHAN_GRACE) -> list[str]:
    """Deletes the blobs that `orphans` returns, and returns their digests. Raises `HostFileError`, and what the records raise."""
    return [digest for digest in orphans(database, store, grace) if _deletes_orphan(database, store, digest)]


def _is_placed(database: Database, store: DirectoryStore, digest: str) -> bool:
    """Returns whether the records place a blob in a store, once who may be adopting it is done."""
    with store.locked(digest), database.read() as connection:
        return place_of(connection, digest, store.name) is not None


def _deletes_orphan(database: Database, store: DirectoryStore, digest: str) -> bool:
    with store.locked(digest):
        with database.read() as connection:
            if place_of(connection, digest, store.name) is not None:
                return False
        store.remove(digest)
    return True


def _placed(database: Database, store: DirectoryStore) -> set[str]:
    known: set[str] = set()
    last = ""
    with database.read() as connection:
        while found := places_in(connection, store.name, after=last):
            known.update(one.blob for one in found)
            last = found[-1].blob
    return known


def _is_older(store: DirectoryStore, digest: str, grace: timedelta) -> bool:
    info = look_up(store.path(digest), follow=False, absent=GONE)
    return info is not None and _age(info) >= grace


def _age(info: os.stat_result) -> timedelta:
    """Returns for how long a file has been as it is; its owner can't set that time."""
    return timedelta(seconds=time.time() - info.st_ctime)
