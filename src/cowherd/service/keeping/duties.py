"""What is done again and again to keep the stores in order, and how often."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from cowherd.service.keeping.definitions import Copies
from cowherd.service.keeping.keeper import Duty
from cowherd.service.keeping.notes import Notes
from cowherd.service.keeping.reaper import delete_orphans, reap
from cowherd.service.keeping.recovery import recover
from cowherd.service.keeping.scrub import Scrub
from cowherd.service.records.database import Database
from cowherd.stores.directory import DirectoryStore

_REAP_SECONDS, _RECOVER_SECONDS, _SCRUB_SECONDS, _REPAIR_SECONDS, _ORPHANS_SECONDS, _NOTES_SECONDS = 30, 60, 60, 15, 3600, 15


@dataclass(frozen=True)
class Care:
    """How the stores are kept.

    Bytes that no image has stay for `grace`. Each blob is verified after `every`, `rate` bytes a second (None: unbounded).
    """

    grace: timedelta
    every: timedelta
    rate: float | None


def duties(database: Database, stores: Mapping[str, DirectoryStore], care: Care) -> list[Duty]:
    """Returns the duties of a keeper of these stores."""
    scrub = Scrub(database, stores, care.rate, care.every)

    def delete_all_orphans(go_on: Callable[[], None]) -> None:
        for store in stores.values():
            go_on()
            delete_orphans(database, store)

    return [
        Duty("deleting what no image has", _REAP_SECONDS, lambda go_on: reap(database, stores, care.grace)),
        Duty("putting uploads right", _RECOVER_SECONDS, lambda go_on: recover(database, stores)),
        Duty("deleting what no record names", _ORPHANS_SECONDS, delete_all_orphans),
        Duty("verifying what is stored", _SCRUB_SECONDS, scrub.verify_due),
        Duty("writing notes beside blobs", _NOTES_SECONDS, Notes(database, stores).follow),
        Duty("copying metadata definitions", _NOTES_SECONDS, Copies(database, stores).write),
        Duty("repairing what is damaged", _REPAIR_SECONDS, scrub.repair_all),
    ]
