"""Changing an image's tables so that a crash between any two writes leaves leaked clusters at worst.

Changes are made in memory; `flush` writes them in steps, each durable before the next relies on it: guest data and refcounts that went
up, new refcount table entries, L2 tables, L1 entries, refcounts that went down. A cluster that is given back counts as
used until the last step, so nothing overwrites what a durable table still shows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cowherd.errors import ImageCorrupt
from cowherd.formats.qcow2.entries import COMPRESSED, OFFSET_MASK, Entries, compressed_place
from cowherd.formats.qcow2.header import Header
from cowherd.formats.qcow2.refcounts import Refcounts
from cowherd.formats.qcow2.state import ImageState
from cowherd.formats.qcow2.tables import Tables, l2_offsets

DIRTY_LIMIT_BYTES = 64 << 20
"""Changed tables in memory beyond this are flushed, so that memory does not grow with the amount of data written."""


class Metadata:
    """The tables and refcounts of an image that is open for writing."""

    def __init__(self, state: ImageState, tables: Tables):
        self._state, self.tables = state, tables
        self.refcounts = Refcounts(state)
        self._freed: list[tuple[int, int]] = []
        self._table_clusters: NDArray[np.int64] | None = None
        self._compressed_end = 0

    @property
    def header(self) -> Header:
        return self._state.header

    def owned_l2(self, index: int) -> Entries:
        """Returns the L2 table of L1 entry `index` to be changed: a new one where there is none, a copy where it is shared."""
        if self.tables.owns_l2(index):
            return self.tables.writable_l2(index)
        shared = self.tables.l2_offset(index)
        table = self.tables.l2(index)
        words = self.header.l2_entry_size // 8
        fresh = np.zeros((self.header.l2_entries, words), np.uint64) if table is None else table.copy()
        cluster, _ = self.refcounts.allocate(1)
        self.tables.place_l2(index, cluster * self.header.cluster_size, fresh)
        self._table_clusters = None
        if shared:
            self.free(shared, 1)
        return fresh

    def drop_l2(self, index: int) -> None:
        """Gives back the L2 table of L1 entry `index`, whose clusters have been given back before."""
        offset = self.tables.l2_offset(index)
        self.tables.set_l1(index, 0)
        self.tables.forget(offset)
        self.free(offset, 1)
        self._table_clusters = None

    def allocate(self, wanted: int) -> tuple[int, int]:
        """Takes up to `wanted` adjacent clusters; returns (file offset, number). They are leaked if nothing points to them."""
        first, number = self.refcounts.allocate(wanted)
        return first * self.header.cluster_size, number

    def allocate_bytes(self, length: int) -> int:
        """Returns a place for compressed data: behind the last one if it fits in that cluster, else in a new cluster."""
        size = self.header.cluster_size
        cluster = self._compressed_end // size
        fits = length <= -self._compressed_end % size
        if fits and self.refcounts.count(cluster) < self.refcounts.maximum:
            self.refcounts.change(cluster, 1, 1)
        else:
            self._compressed_end, _ = self.allocate(1)
        host = self._compressed_end
        self._compressed_end += length
        return host

    def take_back(self, host: int, number: int) -> None:
        """Undoes `allocate` for clusters that nothing, in memory or on disk, points to."""
        self.refcounts.change(host // self.header.cluster_size, number, -1)

    def free(self, host: int, number: int) -> None:
        """Gives back `number` clusters at file offset `host`, once the flush has made durable that nothing points to them."""
        self._freed.append((host // self.header.cluster_size, number))

    def free_words(self, words: NDArray[np.uint64]) -> None:
        """Gives back what L2 entries pointed to (their first words)."""
        compressed = (words & COMPRESSED) != 0
        for word in words[compressed].tolist():
            place = compressed_place(word, self.header.cluster_bits)
            first = place.offset // self.header.cluster_size
            last = (place.offset + place.length - 1) // self.header.cluster_size
            self._freed.append((first, last - first + 1))
        hosts = (words[~compressed] & OFFSET_MASK).astype(np.int64)
        clusters = np.sort(hosts[hosts != 0]) // self.header.cluster_size
        seams = np.flatnonzero(np.diff(clusters) != 1) + 1
        if len(clusters):
            for run in np.split(clusters, seams):
                self._freed.append((int(run[0]), len(run)))

    def refuse_overlap(self, host: int, length: int) -> None:
        """Raises `ImageCorrupt` where a guest write to [host, host+length) would hit the image's own tables."""
        size = self.header.cluster_size
        if self._table_clusters is None:
            self._table_clusters = self._find_table_clusters()
        first, last = host // size, (host + length - 1) // size
        found = np.searchsorted(self._table_clusters, [first, last + 1])
        if found[0] != found[1]:
            raise ImageCorrupt(self._state.file.path, f"a guest cluster at file offset {host:#x} overlaps the image's tables")

    def tables_moved(self) -> None:
        """Must be called after a table has got other clusters without this object's doing."""
        self._table_clusters = None

    def flush_if_large(self) -> None:
        """Flushes if the changes in memory have grown past the limit."""
        if self.tables.dirty_bytes + self.refcounts.dirty_bytes > DIRTY_LIMIT_BYTES:
            self.flush()

    def flush(self) -> None:
        """Makes every change durable, in the order that survives a crash."""
        file = self._state.file
        self.refcounts.write_blocks()
        file.flush()
        if self.refcounts.has_new_blocks:
            self.refcounts.write_table()
            file.flush()
        if self.tables.has_dirty_l2:
            self.tables.write_l2()
            file.flush()
        if self.tables.has_dirty_l1:
            self.tables.write_l1()
            file.flush()
        self._release_freed()

    def _release_freed(self) -> None:
        while self._freed:
            first, number = self._freed[-1]
            self.refcounts.change(first, number, -1)
            self._freed.pop()
            if first <= self._compressed_end // self.header.cluster_size < first + number:
                self._compressed_end = 0  # the cluster may be used for something else from now on
            for start, end in self.refcounts.unused_in(first, number).tolist():
                self._state.file.punch_hole(start * self.header.cluster_size, (end - start) * self.header.cluster_size)
        self.refcounts.write_blocks()

    def _find_table_clusters(self) -> NDArray[np.int64]:
        header, size = self.header, self.header.cluster_size
        l1_clusters = -(-header.l1_size * 8 // size)
        runs = [
            np.zeros(1, np.int64),
            header.l1_table_offset // size + np.arange(l1_clusters),
            header.refcount_table_offset // size + np.arange(header.refcount_table_clusters),
            self.refcounts.table[self.refcounts.table != 0] // size,
            (offsets := l2_offsets(self.tables.l1))[offsets != 0] // size,
        ]
        return np.unique(np.concatenate(runs).astype(np.int64))
