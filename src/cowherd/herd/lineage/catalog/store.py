"""The catalog's file, an SQLite database: the rows of `rows.py` by directory."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from typing import TYPE_CHECKING

from cowherd.paths import as_path
from cowherd.storage.atomic import temporary_name

if TYPE_CHECKING:
    from pathlib import Path

_APPLICATION = 0x436F5743  # "CoWC"
_APPLICATION_OFFSET = 68  # where an SQLite file holds its application id (sqlite.org/fileformat.html, 1.3)
_SQLITE = b"SQLite format 3\0"
_BUSY_SECONDS = 1.0
_DAY = 86400
_KEPT_DAYS = 90
_MARKED_DAYS = 7
_SIDE_FILES = ("", "-wal", "-shm", "-journal")

_TABLES = """
CREATE TABLE IF NOT EXISTS directories (path TEXT NOT NULL PRIMARY KEY, used INTEGER NOT NULL, rows BLOB NOT NULL);
"""


class NotACatalog(Exception):
    """The file is no catalog, so that it must not be deleted."""


class Store:
    """An open catalog. Every method raises `sqlite3.Error`.

    Nothing is flushed: after a power cut rows may be missing or old. Their checksums and the files' identities show that.
    """

    def __init__(self, path: Path, *, ours: bool):
        """Opens the catalog at `path`, and makes it if there is no file. With `ours` any file there is taken for a catalog.

        Raises `NotACatalog`, OSError.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _make(path)
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))  # fails if this user may not write; SQLite would open it read-only
        if not ours and not _may_be_catalog(path):
            raise NotACatalog
        self._today = int(time.time() / _DAY)
        self._database = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            self._database.execute("PRAGMA synchronous = OFF")
            if self._database.execute("PRAGMA application_id").fetchone() != (_APPLICATION,):
                raise sqlite3.DatabaseError("not a catalog")
        except sqlite3.Error:
            self._database.close()
            raise

    def close(self) -> None:
        """Closes the catalog."""
        self._database.close()

    def rows(self, directory: str) -> tuple[bytes, bool]:
        """Returns the rows of a directory, as `rows.pack` makes them, and whether they should be written again soon.

        That marks them as still in use: `commit` drops rows that nobody has written for three months.
        """
        found = self._database.execute("SELECT rows, used FROM directories WHERE path = ?", (directory,)).fetchone()
        return (bytes(found[0]), found[1] < self._today - _MARKED_DAYS) if found else (b"", False)

    def replace(self, directory: str, rows: bytes) -> None:
        """Replaces the rows of a directory. Call it between `begin` and `commit`."""
        self._database.execute("INSERT OR REPLACE INTO directories VALUES (?, ?, ?)", (directory, self._today, rows))

    def begin(self) -> None:
        """Begins the transaction for writing."""
        self._database.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Drops rows that nobody has used for three months, and commits."""
        self._database.execute("DELETE FROM directories WHERE used < ?", (self._today - _KEPT_DAYS,))
        self._database.execute("COMMIT")


def _make(path: Path) -> None:
    """Makes an empty catalog, which appears whole, since several processes may do so at once."""
    unfinished = as_path(temporary_name(path))
    try:
        os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with contextlib.closing(sqlite3.connect(unfinished, isolation_level=None)) as database:
            for statement in ("synchronous = OFF", "journal_mode = WAL", f"application_id = {_APPLICATION}"):
                database.execute(f"PRAGMA {statement}")
            database.executescript(_TABLES)
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.link(unfinished, path)
    finally:
        throw_away(unfinished)


def throw_away(path: Path) -> None:
    """Removes a catalog with the files that SQLite keeps beside it. Raises OSError."""
    for suffix in _SIDE_FILES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _may_be_catalog(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_APPLICATION_OFFSET + 4)
    return head.startswith(_SQLITE) and head[_APPLICATION_OFFSET:] == _APPLICATION.to_bytes(4, "big")
