"""Changes an image's tables so that a crash between any two writes leaves leaked clusters at worst.

Changes are made in memory; `flush` writes them in steps, each durable before the next relies on it: guest data and refcounts
that went up, new refcount table entries, L2 tables, L1 entries, refcounts that went down. A freed cluster counts as used until
the last step, so nothing overwrites what a durable table still shows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cowherd.errors import ImageCorrupt
from cowherd.extents import Ranges
from cowherd.formats.qcow2.entries import COMPRESSED, OFFSET_MASK, Entries, compressed_places
from cowherd.formats.qcow2.header import Header
from cowherd.formats.qcow2.refcounts import Refcounts
from cowherd.formats.qcow2.state import ImageState
from cowherd.formats.qcow2.tables import Tables, l2_offsets

DIRTY_LIMIT_BYTES = 64 << 20
"""Changed tables are flushed when they take more memory than this, so that memory does not grow with the data written."""


class Metadata:
    """The tables and refcounts of an image that is open for writing."""

    def __init__(self, state: ImageState, tables: Tables):
        self._state, self.tables = state, tables
        self.refcounts = Refcounts(state)
        self._freed: list[Ranges] = []
        """Runs of host clusters, one for each reference that is gone: the next flush lowers their counts."""
        self._l2_clusters: set[int] | None = None
        self._compressed_end = 0

    @property
    def header(self) -> Header:
        """The header as it is now."""
        return self._state.header

    def owned_l2(self, index: int) -> Entries:
        """Returns the L2 table of L1 entry `index` for changing. Makes a new one if there is none, a copy if it is shared."""
        if self.tables.owns_l2(index):
            return self.tables.writable_l2(index)
        shared = self.tables.l2_offset(index)
        table = self.tables.l2(index)
        words = self.header.l2_entry_size // 8
        fresh = np.zeros((self.header.l2_entries, words), np.uint64) if table is None else table.copy()
        host, _ = self.allocate(1)
        self.tables.place_l2(index, host, fresh)
        self._note_l2(shared, host)
        if shared:
            self.free(shared, 1)
        return fresh

    def drop_l2(self, index: int) -> None:
        """Frees the L2 table of L1 entry `index`, whose clusters are freed already."""
        offset = self.tables.l2_offset(index)
        self.tables.set_l1(index, 0)
        self.tables.forget(offset)
        self.free(offset, 1)
        self._note_l2(offset, 0)

    def allocate(self, wanted: int) -> tuple[int, int]:
        """Takes up to `wanted` adjacent clusters; returns (file offset, number). They leak unless something will point to them.

        Raises `ImageCorrupt` if clusters of the image's own tables count as free.
        """
        size = self.header.cluster_size
        first, number = self.refcounts.allocate(wanted)
        self.refuse_overlap(first * size, number * size)
        return first * size, number

    def allocate_bytes(self, length: int) -> int:
        """Returns a file offset for compressed data: behind the last data if that cluster has room, else in a new cluster."""
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
        """Frees `number` clusters at file offset `host`, once a flush has made durable that nothing points to them."""
        first = host // self.header.cluster_size
        self._freed.append(np.array([[first, first + number]], np.int64))

    def free_words(self, words: NDArray[np.uint64]) -> None:
        """Frees the clusters that L2 entries pointed to, given the entries' first words."""
        if not words.any():
            return
        size = self.header.cluster_size
        compressed = (words & COMPRESSED) != 0
        if compressed.any():
            offset, length = compressed_places(words[compressed], self.header.cluster_bits)
            self._freed.append(np.column_stack((offset // size, (offset + length - 1) // size + 1)))
        hosts = (words[~compressed] & OFFSET_MASK).astype(np.int64)
        clusters = np.sort(hosts[hosts != 0]) // size
        if len(clusters):
            seams = np.flatnonzero(np.diff(clusters) != 1)
            first = np.concatenate((clusters[:1], clusters[seams + 1]))
            last = np.concatenate((clusters[seams], clusters[-1:]))
            self._freed.append(np.column_stack((first, last + 1)))

    def refuse_overlap(self, host: int, length: int) -> None:
        """Raises `ImageCorrupt` if a write to [host, host+length) would hit the image's own tables."""
        size = self.header.cluster_size
        if self._holds_tables(host // size, -(-(host + length) // size)):
            raise ImageCorrupt(self._state.file.path, f"a cluster at file offset {host:#x} overlaps the image's tables")

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

    def trim(self) -> None:
        """Flushes, and truncates the file behind the last cluster in use.

        A crash in between leaves refcounts of clusters that do not exist any more: leaks.
        """
        self.flush()
        end = self.refcounts.last_used() * self.header.cluster_size
        if not self._state.file.is_block_device and self._state.file.size() > end:
            self._state.file.truncate(end)

    def _release_freed(self) -> None:
        if not self._freed:
            return
        freed = np.concatenate(self._freed)
        self._freed.clear()
        size = self.header.cluster_size
        for start, end in self.refcounts.decrease(freed).tolist():
            if start <= self._compressed_end // size < end:
                self._compressed_end = 0  # the cluster may be used for something else from now on
            self._state.file.punch_hole(start * size, (end - start) * size)
        self.refcounts.write_blocks()

    def _holds_tables(self, first: int, end: int) -> bool:
        """Returns whether any host cluster of [first, end) belongs to the header, the active tables or the refcounts."""
        header, size = self.header, self.header.cluster_size
        l1 = header.l1_table_offset // size
        table = header.refcount_table_offset // size
        if first < 1 or (first < l1 - (-header.l1_size * 8 // size) and l1 < end):
            return True
        if first < table + header.refcount_table_clusters and table < end:
            return True
        if self._l2_clusters is None:
            self._l2_clusters = set((l2_offsets(self.tables.l1) // size).tolist()) - {0}
        wanted = range(first, end)
        return not (self._l2_clusters.isdisjoint(wanted) and self.refcounts.block_clusters.isdisjoint(wanted))

    def _note_l2(self, old: int, new: int) -> None:
        """Records that the L2 table at file offset `old` is at `new` now; 0 stands for none."""
        if self._l2_clusters is not None:
            self._l2_clusters.discard(old // self.header.cluster_size)
            if new:
                self._l2_clusters.add(new // self.header.cluster_size)
