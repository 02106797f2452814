"""Tells scans what files hold without opening them, as long as stat(2) says that they have not changed.

A row is used only if device, inode, size, mtime and ctime of the file are those of the row: ctime can't be set back, and moves
with every write, change of owner or permissions, and link. A file that changed within the last seconds before it was read gets
no row, since it may change once more within one tick of the clock that stamps it. Every scan calls stat(2) for every file,
whatever the times of its directory say: a write to a file does not change them.
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
"""Number of files below which reading them takes less time than opening a catalog."""
SETTLED_NS = 3 * 10**9
"""A file that last changed longer ago gets a new ctime with its next change: the coarsest time stamps are 2 seconds apart."""

rescanning: contextvars.ContextVar[bool] = contextvars.ContextVar("rescanning", default=False)
"""Whether scans read every file again, and only write what they find to the catalog."""


_PRIMARY = 0xFF  # mask of the primary result code in SQLite's extended ones
_NO_DAMAGE = (3, 5, 6, 7, 8, 10, 13, 14)  # no permission, busy, locked, no memory, read-only, I/O, full, can't open


def is_safely_old(identity: Identity, read_at_ns: int) -> bool:
    """Returns whether a file that was read at `read_at_ns` can't change again without another ctime."""
    return identity[4] < read_at_ns - SETTLED_NS


class Catalog:
    """The catalog for one scan; a context manager. If it can't be used, it knows no file; that is no error.

    `path` is its file, None while it is not in use.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self._store: Store | None = None
        self._opened = False
        self._files = 0
        self._reliable: dict[str, bool] = {}
        self._known: dict[str, bytes] = {}  # packed rows, as they were read, of each directory that was asked for
        self._changed: dict[str, dict[str, Row]] = {}  # rows to write, of the directories whose rows change

    def __enter__(self) -> Catalog:
        return self

    def __exit__(self, *exc: object) -> None:
        self._write_changes()
        self._close()

    def rows(self, place: str, listing: Listing) -> Mapping[str, Row] | None:
        """Returns the rows of a directory under `place`, by file name; None if the caller need not remember anything of it."""
        self._files += len(listing.files)
        if self._files < WORTHWHILE or not self._open_if_reliable(place) or not _is_text(listing.directory):
            return None
        data, is_stale = b"", False
        with self._fall_back_on_errors():
            data, is_stale = self._store.rows(listing.directory) if self._store else (data, is_stale)
        self._known[listing.directory] = data
        rows = unpack(data)
        if is_stale or not rows.keys() <= listing.files.keys():
            self._changed[listing.directory] = {name: row for name, row in rows.items() if name in listing.files}
        return {} if rescanning.get() else rows

    def remember(self, directory: str, rows: Mapping[str, Row]) -> None:
        """Notes the rows of files that were read just now; `is_safely_old` must be true for each."""
        if self._store is None or not rows:
            return
        if directory not in self._changed:
            self._changed[directory] = unpack(self._known.get(directory, b""))
        self._changed[directory] |= rows

    def _open_if_reliable(self, place: str) -> bool:
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
            _warn_once(f"not using the catalog {printable(path)}: {problem}")
            return
        self.path = path
        with self._fall_back_on_errors():
            self._store = self._new_store(path)

    def _new_store(self, path: Path) -> Store | None:
        from cowherd.herd.lineage.catalog.store import NotACatalog, Store

        try:
            return Store(path, ours=not is_named())
        except NotACatalog:
            _warn_once(f"not using {printable(path)} as a catalog: it is something else")
            self.path = None
            return None

    @contextlib.contextmanager
    def _fall_back_on_errors(self) -> Iterator[None]:
        """Runs a block that uses the store. If the store fails, goes on without it; if it is damaged, with a new one.

        Not an error for the caller: a scan without a catalog only takes longer.
        """
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
        _warn_once(f"the catalog {printable(path)} was damaged; it is made anew")
        with contextlib.suppress(OSError, sqlite_error()):
            throw_away(path)
            self.path, self._store = path, self._new_store(path)

    def _close(self) -> None:
        store, self._store, self.path = self._store, None, None
        if store:
            store.close()

    def _write_changes(self) -> None:
        if not self._changed:
            return
        with self._fall_back_on_errors():
            if self._store:
                self._store.begin()
                for directory, rows in self._changed.items():
                    self._store.replace(directory, pack(rows))
                self._store.commit()


def sqlite_error() -> type[Exception]:
    """Returns the class of SQLite's errors. sqlite3 is imported only if a catalog is used, since that takes time."""
    import sqlite3

    return sqlite3.Error


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8, which SQLite's text can't hold
        return False
    return True


@functools.cache
def _warn_once(text: str) -> None:
    """Warns the user through the log, once per process and text."""
    import logging

    logging.getLogger(__name__).warning("cowherd: %s", text)
