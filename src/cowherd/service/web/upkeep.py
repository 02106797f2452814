"""What is done to the data of a service from its command line: the check, the making of lost records, the move from Glance."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import make_url

from cowherd.errors import InvalidRequest
from cowherd.service.glance.adopting import Adoption
from cowherd.service.glance.configuration import read_configuration
from cowherd.service.glance.content import Bringing
from cowherd.service.glance.database import reading_glance
from cowherd.service.glance.files import Files
from cowherd.service.glance.images import read_images
from cowherd.service.glance.report import Adopted
from cowherd.service.glance.vocabulary import read_vocabulary
from cowherd.service.intake.inspection import Rules
from cowherd.service.keeping.definitions import Copies
from cowherd.service.keeping.fsck.run import check_service
from cowherd.service.keeping.rebuild import Rebuilt, rebuild
from cowherd.service.records.database import Database, open_database
from cowherd.service.records.migration import migrate, schema_version
from cowherd.service.records.schema import VERSION
from cowherd.service.web.run import prepare, stores_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cowherd.progress import Progress
    from cowherd.service.glance.images import GlanceImages
    from cowherd.service.glance.report import Outcome
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


def adopt_glance(
    settings: Settings, configuration: Path, *, dry_run: bool = False, hard_links: bool = False, progress: Progress | None = None
) -> Adopted:
    """Adopts what the Glance with this configuration has; with `dry_run` it only reads, and says what would become of it.

    With `hard_links` files of Glance's become files of ours where that is possible: see `DirectoryStore.begin_linked`.
    `progress` counts the bytes that are read. Raises `InvalidRequest`, `HostFileError`, `GlanceUnreadable`, `StoreFull`, and what
    the records raise. What was adopted until then stays so.
    """
    described = read_configuration(configuration)
    with reading_glance(described.database) as connection:
        images, vocabulary = read_images(connection), read_vocabulary(connection)
    stores = stores_of(settings)
    reached = _Reached(images, progress)
    with _records_for(settings, dry_run=dry_run) as database:
        adoption = Adoption(
            database,
            stores,
            Files(described.backends, encrypts=described.encrypts),
            Bringing(Rules(match_format=settings.require_format_match), settings.hash_algorithm, hard_links, reached.count),
            keeps_web=bool(settings.http_store),
            is_dry=dry_run,
        )
        outcomes = tuple(reached.passing(adoption.adopt_images(images)))
        namespaces = tuple(adoption.adopt_vocabulary(vocabulary))
        if not dry_run:
            Copies(database, stores).write(lambda: None)
        return Adopted(outcomes, namespaces, dry_run)


@contextlib.contextmanager
def _records_for(settings: Settings, *, dry_run: bool) -> Iterator[Database]:
    """Gives the service's records; to a dry run that finds none, or those of another version, new ones that are not kept."""
    if not dry_run:
        prepare(settings)
    with contextlib.ExitStack() as stack:
        path = make_url(settings.database_url).database
        is_there = not settings.database_url.startswith("sqlite") or os.path.exists(path or "")
        if is_there:
            database = stack.enter_context(contextlib.closing(open_database(settings.database_url)))
            with database.read() as connection:
                is_usable = schema_version(connection) == VERSION
            if is_usable:
                yield database
                return
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        database = stack.enter_context(contextlib.closing(open_database(f"sqlite:///{folder}/records.sqlite")))
        migrate(database)
        yield database


class _Reached:
    """How far the images of a Glance are read, in bytes; `progress` is told."""

    def __init__(self, images: GlanceImages, progress: Progress | None):
        self._ends = list(itertools.accumulate(one.record.size or 0 for one in images.images))
        self._total = self._ends[-1] if self._ends else 0
        self._done, self._progress = 0, progress

    def count(self, length: int) -> None:
        """Called for bytes that were read."""
        self._tell(self._done + length)

    def passing(self, outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
        """Yields what became of the images, in their order: each one is passed then, however much was read of it."""
        for number, outcome in enumerate(outcomes):
            self._tell(self._ends[number] if number < len(self._ends) else self._total)
            yield outcome

    def _tell(self, done: int) -> None:
        self._done = done
        if self._progress is not None:
            self._progress(min(done, self._total), self._total)
