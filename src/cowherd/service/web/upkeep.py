"""What is done to the data of a service from its command line: the check, and the making of lost records."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from sqlalchemy import make_url

from cowherd.errors import InvalidRequest
from cowherd.service.keeping.fsck.run import check_service
from cowherd.service.keeping.rebuild import Rebuilt, rebuild
from cowherd.service.records.database import open_database
from cowherd.service.records.migration import migrate
from cowherd.service.web.run import stores_of

if TYPE_CHECKING:
    from cowherd.service.keeping.fsck.report import Finding
    from cowherd.service.web.settings import Settings
    from cowherd.stores.directory import DirectoryStore


def fsck(settings: Settings, *, repair: bool) -> list[Finding]:
    """Checks the records against the stores and back, and returns what is not as it should be.

    Raises `InvalidRequest` if there is no database, `HostFileError`, and what the records raise.
    """
    path = make_url(settings.database_url).database
    if settings.database_url.startswith("sqlite") and not os.path.exists(path or ""):
        raise InvalidRequest(f"there is no database at {path}; --rebuild makes one from what the stores have")
    with contextlib.closing(open_database(settings.database_url)) as database:
        migrate(database)
        return list(check_service(database, _stores(settings), repair=repair))


def rebuild_records(settings: Settings) -> Rebuilt:
    """Makes the records again from what the stores have. Raises as `rebuild`."""
    stores = _stores(settings)
    with contextlib.closing(open_database(settings.database_url)) as database:
        migrate(database)
        return rebuild(database, stores)


def _stores(settings: Settings) -> dict[str, DirectoryStore]:
    """Returns the stores, made anew and empty where they are gone, as at the start of the service."""
    stores = stores_of(settings)
    for store in stores.values():
        store.prepare()
    return stores
