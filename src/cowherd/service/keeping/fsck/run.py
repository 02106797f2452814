"""The whole check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cowherd.service.keeping.fsck.contents import ContentsCheck
from cowherd.service.keeping.fsck.definitions import DefinitionsCheck
from cowherd.service.keeping.fsck.records import RecordsCheck
from cowherd.service.keeping.fsck.report import Finding
from cowherd.service.records.database import Database
from cowherd.stores.directory import DirectoryStore


def check_service(database: Database, stores: Mapping[str, DirectoryStore], *, repair: bool) -> Iterator[Finding]:
    """Checks the records against the stores and back, also while the service answers, and yields what is not as it should be.

    Without `repair` nothing is changed. Raises `HostFileError`, and what the records raise.
    """
    yield from RecordsCheck(database, stores, repair).run()
    yield from ContentsCheck(database, stores, repair).run()
    yield from DefinitionsCheck(database, stores, repair).run()
