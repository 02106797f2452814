"""Reads all blobs again and again, at a bounded rate and the longest unread first, and repairs what it can."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta

from cowherd.errors import CowherdError
from cowherd.progress import Progress
from cowherd.service import counting
from cowherd.service.keeping.beside import restore_beside
from cowherd.service.keeping.repair import repair_place
from cowherd.service.keeping.verifying import has_changed, identity_in, verify_place
from cowherd.service.records.blobs import MISSING, WHOLE
from cowherd.service.records.database import Database
from cowherd.service.records.faults import DatabaseUnavailable
from cowherd.service.records.image import now
from cowherd.service.records.places import Place, bad_places, place_of, places_of, places_to_verify
from cowherd.stores.directory import DirectoryStore

HOW = "scrub"
_BATCH = 16
_log = logging.getLogger("cowherd.service")


class Scrub:
    """Keeps the blobs of `stores` whole: verifies each at least every `every`, at `rate` bytes a second (None: unbounded)."""

    def __init__(self, database: Database, stores: Mapping[str, DirectoryStore], rate: float | None, every: timedelta):
        self._database, self._stores, self._rate, self._every = database, stores, rate, every
        self._given_up: dict[tuple[str, str], list[Place]] = {}

    def verify_due(self, go_on: Callable[[], None]) -> int:
        """Verifies the places that are due, of each store the eldest first, and what lies beside them; returns how many.

        `go_on` is called from time to time; what it raises ends the work. Raises what the records raise.
        """
        return sum(self._verify_all_in(store, go_on) for store in self._stores.values())

    def _verify_all_in(self, store: DirectoryStore, go_on: Callable[[], None]) -> int:
        before, done = now() - self._every, 0
        failed: set[str] = set()
        while due := self._due(store, before, failed):
            for place in due:
                if self._verifies(store, place, go_on):
                    done += 1
                else:
                    failed.add(place.blob)
        return done

    def _due(self, store: DirectoryStore, before: datetime, failed: set[str]) -> list[Place]:
        """Returns the next places to verify, but for those that could not be looked at in this run."""
        with self._database.read() as connection:
            found = places_to_verify(connection, store.name, _BATCH + len(failed), before)
        return [place for place in found if place.blob not in failed]

    def _verifies(self, store: DirectoryStore, place: Place, go_on: Callable[[], None]) -> bool:
        """Verifies a place; returns whether its record says so now."""
        looked = False
        with _telling(f"blob {place.blob} in the store {store.name}"):
            go_on()
            verify_place(self._database, store, place.blob, HOW, rate=self._rate, progress=_counting(store, go_on))
            with self._database.read() as connection:
                found = place_of(connection, place.blob, store.name)
            looked = found is None or found.verified_at != place.verified_at
            if found is not None and found.state == WHOLE:
                restore_beside(self._database, store, place.blob)
        return looked

    def repair_all(self, go_on: Callable[[], None]) -> int:
        """Repairs the places that are damaged or missing, where other stores have what is needed; returns how many.

        One that can't be repaired is tried again when something about its blob has changed. Raises what the records raise.
        """
        with self._database.read() as connection:
            bad = [one for one in bad_places(connection) if one.store in self._stores]
        return sum(self._repairs(place, go_on) for place in bad)

    def _repairs(self, place: Place, go_on: Callable[[], None]) -> bool:
        key, store, whole = (place.blob, place.store), self._stores[place.store], False
        with _telling(f"blob {place.blob} in the store {store.name}"):
            go_on()
            whole = _was_restored(store, place) and verify_place(self._database, store, place.blob, HOW)
            if not whole:
                whole = self._repairs_from_others(key, go_on)
        return whole

    def _repairs_from_others(self, key: tuple[str, str], go_on: Callable[[], None]) -> bool:
        with self._database.read() as connection:
            known = places_of(connection, key[0])
        if self._given_up.get(key) == known:
            return False
        if repair_place(self._database, self._stores, *key, progress=lambda _done, _total: go_on()):
            self._given_up.pop(key, None)
            return True
        self._given_up[key] = known
        return False


def _counting(store: DirectoryStore, go_on: Callable[[], None]) -> Progress:
    """Returns what counts the bytes of one blob that are verified, and calls `go_on` each time."""
    seen = 0

    def told(done: int, total: int) -> None:
        nonlocal seen
        counting.add(counting.SCRUBBED, store.name, by=done - seen)
        seen = done
        go_on()

    return told


def _was_restored(store: DirectoryStore, place: Place) -> bool:
    """Returns whether there is a file now that was not found to be damaged: somebody may have brought a copy."""
    return identity_in(store, place.blob) is not None and (place.state == MISSING or has_changed(store, place))


@contextlib.contextmanager
def _telling(what: str) -> Iterator[None]:
    """Has the log tell of an error about one blob, so that the others are not kept waiting by it."""
    try:
        yield
    except DatabaseUnavailable:
        raise
    except CowherdError as error:
        _log.error("%s: %s", what, error)
