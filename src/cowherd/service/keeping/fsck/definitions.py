"""Checks the copies of the metadata definitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from cowherd.service.keeping.definitions import read_copy, write_copy
from cowherd.service.keeping.faults import CopyDamaged
from cowherd.service.keeping.fsck.report import Finding
from cowherd.service.records.database import Database
from cowherd.service.records.image import now
from cowherd.service.records.metadefs import Definition, all_definitions
from cowherd.stores.directory import DirectoryStore

PATIENCE = timedelta(minutes=1)
"""How long a definition need not be in the copies: a service that answers writes them some seconds after a change."""


@dataclass(frozen=True)
class DefinitionsCheck:
    """Checks that each store has a copy of the metadata definitions; with `repair` it writes what is not as it should be."""

    database: Database
    stores: Mapping[str, DirectoryStore]
    repair: bool

    def run(self) -> Iterator[Finding]:
        """Yields what it finds. Raises `HostFileError`, and what the records raise."""
        with self.database.read() as connection:
            recorded = all_definitions(connection)
        for store in self.stores.values():
            problem = _problem(store, recorded)
            if problem is not None:
                # Without any, the records may have taken the place of lost ones: what a copy holds is not thrown away then.
                repaired = self.repair and bool(recorded) and write_copy(store, recorded)
                yield Finding("metadefs", problem, store.name, repaired=repaired)


def _problem(store: DirectoryStore, recorded: Sequence[Definition]) -> str | None:
    before = now() - PATIENCE
    settled = [one for one in recorded if one.updated_at < before]
    try:
        copy = read_copy(store)
    except CopyDamaged as error:
        return str(error)
    held = {(one.kind, one.namespace, one.name): one for one in (copy.definitions if copy else ())}
    lacking = sum(held.get((one.kind, one.namespace, one.name)) != one for one in settled)
    return f"the copy of the metadata definitions lacks {lacking} of {len(recorded)}" if lacking else None
