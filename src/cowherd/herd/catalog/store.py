"""The catalog's file, an SQLite database: rows of `rows.py` by directory and name."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from cowherd.storage.atomic import temporary_name

_APPLICATION = 0x436F5743  # "CoWC"
_APPLICATION_OFFSET = 68  # of the application's number in the file (sqlite.org/fileformat.html, 1.3)
_SQLITE = b"SQLite format 3\0"
_BUSY_SECONDS = 1.0
_DAY = 86400
_KEPT_DAYS = 90
_MARKED_DAYS = 7
_SIDE_FILES = ("", "-wal", "-shm", "-journal")

_TABLES = """
CREATE TABLE IF NOT EXISTS directories (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, used INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS files (
    directory INTEGER NOT NULL, name TEXT NOT NULL, row BLOB NOT NULL, PRIMARY KEY (directory, name)
) WITHOUT ROWID;
"""


class NotACatalog(Exception):
    """The file is something else, which is not to be thrown away."""


class Store:
    """An open catalog. Every method raises `sqlite3.Error`.

    Nothing is flushed: after a power cut rows may be missing or old, and each says itself whether it can be believed.
    """

    def __init__(self, path: Path, *, ours: bool):
        """Opens the catalog at `path`, making it if nothing is there. With `ours` whatever lies there is a catalog.

        Raises `NotACatalog`, OSError.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _make(path)
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))  # or SQLite would open it for reading only
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

    def rows(self, directory: str) -> dict[str, bytes]:
        """Returns the rows of a directory by file name."""
        found = self._database.execute("SELECT id FROM directories WHERE path = ?", (directory,)).fetchone()
        return dict(self._database.execute("SELECT name, row FROM files WHERE directory = ?", found)) if found else {}

    def stale(self, directory: str) -> bool:
        """Whether it should be noted that a directory with rows is still in use."""
        found = self._database.execute("SELECT used FROM directories WHERE path = ?", (directory,)).fetchone()
        return found is not None and found[0] < self._today - _MARKED_DAYS

    def change(self, directory: str, new: Mapping[str, bytes], gone: Iterable[str]) -> None:
        """Puts rows in place of those of the same names, and drops others. Belongs between `begin` and `commit`."""
        run = self._database.execute
        run(
            "INSERT INTO directories (path, used) VALUES (?, ?) ON CONFLICT (path) DO UPDATE SET used = excluded.used",
            (directory, self._today),
        )
        (number,) = run("SELECT id FROM directories WHERE path = ?", (directory,)).fetchone()
        many = self._database.executemany
        many("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", ((number, name, row) for name, row in new.items()))
        many("DELETE FROM files WHERE directory = ? AND name = ?", ((number, name) for name in gone))

    def begin(self) -> None:
        """Begins to write."""
        self._database.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Ends writing; what nobody has looked at for three months is dropped."""
        old = self._today - _KEPT_DAYS
        run = self._database.execute
        run("DELETE FROM files WHERE directory IN (SELECT id FROM directories WHERE used < ?)", (old,))
        run("DELETE FROM directories WHERE used < ?", (old,))
        run("COMMIT")


def _make(path: Path) -> None:
    """Makes an empty catalog, which appears whole: several processes may do so at once."""
    unfinished = temporary_name(path)
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
