"""What scans know of files without opening them, as long as stat(2) says that these are as they were.

A row is used only if device, inode, size, mtime and ctime of the file are those of the row: ctime can't be set back, and moves
with every write, change of owner or permissions, and link. A file that changed within the last seconds before it was read gets
no row, since it may change once more within one tick of the clock that stamps it. Every file is looked at with stat(2) in every
scan, whatever the times of its directory say.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools

from cowherd.herd.lineage.catalog.place import catalog_path, distrust, is_named, times_are_reliable
from cowherd.herd.lineage.catalog.rows import Row, pack, unpack
from cowherd.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from cowherd.herd.lineage.catalog.store import Store
    from cowherd.herd.lineage.walk import Listing
    from cowherd.herd.records.header import Identity

WORTHWHILE = 256
"""Fewer files than this are read sooner than a catalog is opened."""
SETTLED_NS = 3 * 10**9
"""What changed longer ago than this changes with a new time: the coarsest stamps are of 2 seconds."""

rescanning: contextvars.ContextVar[bool] = contextvars.ContextVar("rescanning", default=False)
"""Whether scans read every file anew, and use the catalog only to write what they find."""


_PRIMARY = 0xFF  # of SQLite's result codes, the part that says which sort
_NO_DAMAGE = (3, 5, 6, 7, 8, 10, 13, 14)  # no permission, busy, locked, no memory, read-only, I/O, full, can't open


def is_safely_old(identity: Identity, read_at_ns: int) -> bool:
    """Returns whether a file that was read at `read_at_ns` can't change again without another ctime."""
    return identity[4] < read_at_ns - SETTLED_NS


class Catalog:
    """The catalog for one scan; a context manager. Where it can't be used, nothing is known, and that is no error.

    `path` is its file, None as long as it is not in use.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self._store: Store | None = None
        self._opened = False
        self._files = 0
        self._reliable: dict[str, bool] = {}
        self._known: dict[str, bytes] = {}  # what was written of the directories that are looked at
        self._changed: dict[str, dict[str, Row]] = {}  # what is to be written of some of them

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *exc: object) -> None:
        self._write()
        self._close()

    def rows(self, place: str, listing: Listing) -> Mapping[str, Row] | None:
        """Returns what is written of a directory under `place`, by file name; None where nothing need be remembered of it."""
        self._files += len(listing.files)
        if self._files < WORTHWHILE or not self._usable(place) or not _is_text(listing.directory):
            return None
        data, is_stale = b"", False
        with self._careful():
            data, is_stale = self._store.rows(listing.directory) if self._store else (data, is_stale)
        self._known[listing.directory] = data
        rows = unpack(data)
        if is_stale or not rows.keys() <= listing.files.keys():
            self._changed[listing.directory] = {name: row for name, row in rows.items() if name in listing.files}
        return {} if rescanning.get() else rows

    def remember(self, directory: str, rows: Mapping[str, Row]) -> None:
        """Notes what was found in files that were read just now, none of which `is_safely_old` doubts."""
        if self._store is None or not rows:
            return
        if directory not in self._changed:
            self._changed[directory] = unpack(self._known.get(directory, b""))
        self._changed[directory] |= rows

    def _usable(self, place: str) -> bool:
        if place not in self._reliable:
            self._reliable[place] = times_are_reliable(place)
        if self._reliable[place] and not self._opened:
            self._opened = True
            self._open()
        return self._reliable[place] and self._store is not None

    def _open(self) -> None:
        path = catalog_path()
        if path is None:
            return
        try:
            problem = distrust(path)
        except OSError:
            return
        if problem:
            _say(f"not using the catalog {printable(path)}: {problem}")
            return
        self.path = path
        with self._careful():
            self._store = self._new_store(path)

    def _new_store(self, path: Path) -> Store | None:
        from cowherd.herd.lineage.catalog.store import NotACatalog, Store

        try:
            return Store(path, ours=not is_named())
        except NotACatalog:
            _say(f"not using {printable(path)} as a catalog: it is something else")
            self.path = None
            return None

    @contextlib.contextmanager
    def _careful(self) -> Iterator[None]:
        """Goes on without the catalog where it can't be used, and with a new one where it is damaged."""
        import sqlite3

        try:
            yield
        except sqlite3.Error as error:
            self._close()
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & _PRIMARY not in _NO_DAMAGE:
                self._renew()
        except OSError:
            self._close()

    def _renew(self) -> None:
        from cowherd.herd.lineage.catalog.store import throw_away

        path = catalog_path()
        if path is None:
            return
        _say(f"the catalog {printable(path)} was damaged; it is made anew")
        with contextlib.suppress(OSError, sqlite_error()):
            throw_away(path)
            self.path, self._store = path, self._new_store(path)

    def _close(self) -> None:
        store, self._store, self.path = self._store, None, None
        if store:
            store.close()

    def _write(self) -> None:
        if not self._changed:
            return
        with self._careful():
            if self._store:
                self._store.begin()
                for directory, rows in self._changed.items():
                    self._store.replace(directory, pack(rows))
                self._store.commit()


def sqlite_error() -> type[Exception]:
    """Returns the class of SQLite's errors; its module is imported only where a catalog is used."""
    import sqlite3

    return sqlite3.Error


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8, which SQLite's text can't hold
        return False
    return True


@functools.cache
def _say(text: str) -> None:
    """Tells a person, once in a process."""
    import logging

    logging.getLogger(__name__).warning("cowherd: %s", text)
