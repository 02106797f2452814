"""Checks what the stores have against the records, and the other way round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from cowherd.service.intake.faults import Refused
from cowherd.service.keeping.beside import damaged_beside, restore_beside
from cowherd.service.keeping.findings import problem_of
from cowherd.service.keeping.fsck.report import Finding
from cowherd.service.keeping.reaper import delete_orphans, orphans
from cowherd.service.keeping.repair import repair_place
from cowherd.service.keeping.verifying import has_changed, identity_in, verify_place
from cowherd.service.records.blobs import DAMAGED, MISSING, WHOLE, Blob, read_blob
from cowherd.service.records.database import Database
from cowherd.service.records.places import Place, places_in
from cowherd.stores.directory import DirectoryStore

HOW = "fsck"
_AT_ONCE = timedelta(0)


@dataclass(frozen=True)
class ContentsCheck:
    """Checks all blobs; with `repair` it puts right what it can. Files that are as they were verified are not read again."""

    database: Database
    stores: Mapping[str, DirectoryStore]
    repair: bool

    def run(self) -> Iterator[Finding]:
        """Yields what it finds. Raises `HostFileError`, and what the records raise."""
        for store in self.stores.values():
            for place, blob in self._placed_in(store):
                yield from self._check_place(store, place, blob)
            yield from self._check_orphans(store)

    def _placed_in(self, store: DirectoryStore) -> Iterator[tuple[Place, Blob]]:
        last = ""
        while True:
            with self.database.read() as connection:
                found = places_in(connection, store.name, after=last)
                blobs = [read_blob(connection, place.blob) for place in found]
            if not found:
                return
            for place, blob in zip(found, blobs, strict=True):
                if blob is not None and blob.unused_since is None:  # what no image has is deleted soon, or in part already
                    yield place, blob
            last = found[-1].blob

    def _check_place(self, store: DirectoryStore, place: Place, blob: Blob) -> Iterator[Finding]:
        bad = self._bad(store, place, blob)
        if bad is not None:
            kind, problem = bad
            repaired = self.repair and self._repairs(store, blob.digest)
            yield Finding(kind, problem, store.name, blob.digest, repaired=repaired)
            if not repaired:
                return
        for kind in damaged_beside(store, blob):
            yield self._finding_beside(store, blob, kind)

    def _bad(self, store: DirectoryStore, place: Place, blob: Blob) -> tuple[str, str] | None:
        """Returns the kind of what is wrong with the bytes of a blob, and a sentence about it; None if nothing is."""
        identity = identity_in(store, blob.digest)
        if identity is None:
            return "missing", "the blob is not there"
        if identity.size != blob.size:
            return "wrong-size", f"the blob has {identity.size} bytes, and should have {blob.size}"
        if place.state == WHOLE and not has_changed(store, place):
            return None
        damage = store.verify(blob.digest)
        seen = Place(blob.digest, store.name, DAMAGED, None, None, damage)
        if damage:
            return "damaged", problem_of([seen]) or ""
        if place.state in (DAMAGED, MISSING):
            return "recovered", f"the blob is recorded as {place.state}, and is whole"
        if self.repair:
            verify_place(self.database, store, blob.digest, HOW)
        return None

    def _repairs(self, store: DirectoryStore, digest: str) -> bool:
        """Records how a blob is, and repairs it from other stores; returns whether it is whole."""
        if verify_place(self.database, store, digest, HOW):
            return True
        return repair_place(self.database, self.stores, digest, store.name)

    def _finding_beside(self, store: DirectoryStore, blob: Blob, kind: str) -> Finding:
        problem, repaired = f"the {kind} beside the blob is damaged or missing", False
        if self.repair:
            try:
                restore_beside(self.database, store, blob.digest)
                repaired = kind not in damaged_beside(store, blob)
            except Refused as error:
                problem = f"{problem}, and can't be made again: {error}"
        return Finding(kind, problem, store.name, blob.digest, repaired=repaired)

    def _check_orphans(self, store: DirectoryStore) -> Iterator[Finding]:
        gone = set(delete_orphans(self.database, store)) if self.repair else set()
        for digest in gone:
            yield Finding("orphan", "no record named the blob for a day", store.name, digest, repaired=True)
        for digest in orphans(self.database, store, _AT_ONCE):
            yield Finding("orphan", "no record names the blob: it is deleted when that has been so for a day", store.name, digest)
