"""A cache of L2 tables: one for each image, or one for all images of a chain, so that memory does not grow with the depth."""

from __future__ import annotations

import threading
from collections import OrderedDict

from cowherd.formats.qcow2.entries import Entries

CACHE_BYTES = 32 << 20

Key = tuple[object, int]
"""The owner of the table (any object that stands for one image), and the table's file offset."""


class TableCache:
    """Tables as they are in the files; the least recently used is dropped first. Safe to use from several threads."""

    def __init__(self, limit: int | None = None):
        """`limit` is the number of bytes of tables to keep (`CACHE_BYTES` by default); the newest table is always kept."""
        self._limit = CACHE_BYTES if limit is None else limit
        self._tables: OrderedDict[Key, Entries] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Key) -> Entries | None:
        """Returns a table, or None if it is not here."""
        with self._lock:
            table = self._tables.get(key)
            if table is not None:
                self._tables.move_to_end(key)
            return table

    def put(self, key: Key, table: Entries) -> None:
        """Keeps a table, which must not change any more."""
        with self._lock:
            self._remove(key)
            self._tables[key] = table
            self._bytes += table.nbytes
            while self._bytes > self._limit and len(self._tables) > 1:
                self._remove(next(iter(self._tables)))

    def pop(self, key: Key) -> Entries | None:
        """Takes a table out; returns it if it was here."""
        with self._lock:
            return self._remove(key)

    def _remove(self, key: Key) -> Entries | None:
        table = self._tables.pop(key, None)
        self._bytes -= 0 if table is None else table.nbytes
        return table
