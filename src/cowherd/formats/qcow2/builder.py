"""Building a new qcow2 image front to back, without ever going back: data in guest order, each L2 table behind its data, the
rest last.

Nothing points anywhere until the header is written at the very end, so no step needs a flush of its own, and a file that was left
unfinished is not an image.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cowherd.formats.qcow2 import entries as l2
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.create import l1_entries, refcount_clusters
from cowherd.formats.qcow2.entries import compressed_word, compressed_words
from cowherd.formats.qcow2.header import Header, write_header
from cowherd.formats.qcow2.refcounts import pack_counts
from cowherd.storage.hostfile import HostFile

_COUNTS_AT_ONCE = 1 << 18
_ENTRIES_AT_ONCE = 1 << 16


class Builder:
    """Decides where each guest cluster goes; the caller writes the data there. Guest clusters come in ascending order."""

    def __init__(self, file: HostFile, header: Header):
        """`file` is empty; `header` is that of `create.new_header`, its tables still without a place."""
        header.pack()  # refuses what does not fit before anything is written
        self.file, self.header = file, header
        self._l1 = np.zeros(l1_entries(header), np.uint64)
        self._table = np.zeros((header.l2_entries, header.l2_entry_size // 8), np.uint64)
        self._index = -1
        self._next = 1  # host cluster; the first is the header's
        self._compressed_end = 0
        self._compressed_counts = np.zeros(0, np.uint32)
        self._maximum = (1 << header.refcount_bits) - 1

    def place_data(self, cluster: int, number: int, bitmaps: NDArray[np.uint64] | None = None) -> int:
        """Maps `number` guest clusters from `cluster` on to adjacent new host clusters; returns their file offset.

        With extended L2 entries `bitmaps` holds each cluster's second word; by default all subclusters are data.
        """
        within, per_table = self._turn_to(cluster), self.header.l2_entries
        host = self._take(number) * self.header.cluster_size
        self._compressed_end = 0
        done = 0
        while done < number:
            if not within and not self.header.extended_l2 and number - done > per_table:
                done += self._write_full_tables(
                    cluster + done, (number - done) // per_table, host + done * self.header.cluster_size
                )
            else:
                count = min(number - done, per_table - within)
                self._fill(within, count, host + done * self.header.cluster_size)
                if self.header.extended_l2:
                    shown = l2.ALLOCATED_BITS if bitmaps is None else bitmaps[done : done + count]
                    self._table[within : within + count, 1] = shown
                done += count
            if done < number:
                within = self._turn_to(cluster + done)
        return host

    def place(self, clusters: NDArray[np.int64], bitmaps: NDArray[np.uint64] | None = None) -> int:
        """Does what `place_data` does for any clusters in ascending order: they come to lie one behind the other."""
        first = self._take(len(clusters)) * self.header.cluster_size
        self._compressed_end = 0
        host = np.uint64(first) + np.arange(len(clusters), dtype=np.uint64) * np.uint64(self.header.cluster_size)
        tables = clusters // self.header.l2_entries
        borders = [0, *(np.flatnonzero(np.diff(tables)) + 1).tolist(), len(clusters)]
        for begin, end in pairwise(borders):
            self._turn_to(int(clusters[begin]))
            within = clusters[begin:end] % self.header.l2_entries
            self._table[within, 0] = host[begin:end] | l2.COPIED
            if self.header.extended_l2:
                self._table[within, 1] = l2.ALLOCATED_BITS if bitmaps is None else bitmaps[begin:end]
        return first

    def _fill(self, within: int, count: int, host: int) -> None:
        """Maps entries of the open table to adjacent clusters."""
        step = np.arange(count, dtype=np.uint64) * np.uint64(self.header.cluster_size)
        self._table[within : within + count, 0] = (step + np.uint64(host)) | l2.COPIED

    def _write_full_tables(self, cluster: int, tables: int, host: int) -> int:
        """Writes up to `tables` whole tables that map adjacent clusters, the open one being empty; returns the clusters."""
        per_table, size = self.header.l2_entries, self.header.cluster_size
        tables = min(tables, max(1, _ENTRIES_AT_ONCE // per_table))
        number = tables * per_table
        words = (np.arange(number, dtype=np.uint64) * np.uint64(size) + np.uint64(host)) | l2.COPIED
        first = self._take(tables) * size
        self.file.pwrite(first, words.astype(">u8").data)
        index = cluster // per_table
        self._l1[index : index + tables] = (first + np.arange(tables, dtype=np.uint64) * np.uint64(size)) | l2.COPIED
        self._index = -1
        return number

    def place_compressed(self, cluster: int, length: int) -> int:
        """Maps a guest cluster to `length` bytes of compressed data, packed behind the last; returns their file offset."""
        size = self.header.cluster_size
        within = self._turn_to(cluster)
        if not self._compressed_end or self._references(self._compressed_end // size) >= self._maximum:
            self._compressed_end = self._take(1) * size
        host = self._compressed_end
        end = host + length
        if end > self._next * size:  # the rest goes to the next cluster, which is adjacent
            self._take(1)
        self._reference(host // size, np.ones((end - 1) // size - host // size + 1, np.int64))
        self._compressed_end = end
        self._table[within] = 0
        self._table[within, 0] = compressed_word(host, length, self.header.cluster_bits)
        return host

    def place_packed(self, clusters: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Does what `place_compressed` does for many clusters, ascending and of one L2 table; returns the file offset of each."""
        size = self.header.cluster_size
        self._turn_to(int(clusters[0]))  # first: it may write another table, behind which this goes
        start = self._compressed_end or self._next * size
        end = start + np.cumsum(lengths)
        host = end - lengths
        first, last = host // size, (end - 1) // size
        uses = np.bincount(first - first[0], minlength=int(last[-1] - first[0]) + 1)
        uses += np.bincount((last - first[0])[last > first], minlength=len(uses))
        if uses.max() + self._references(int(first[0])) > self._maximum:  # few may share a cluster with such narrow refcounts
            places = zip(clusters.tolist(), lengths.tolist(), strict=True)
            return np.array([self.place_compressed(cluster, length) for cluster, length in places])
        self._take(max(0, int(last[-1]) + 1 - self._next))
        self._reference(int(first[0]), uses)
        self._compressed_end = int(end[-1])
        within = clusters % self.header.l2_entries
        self._table[within] = 0
        self._table[within, 0] = compressed_words(host, lengths, self.header.cluster_bits)
        return host

    def finish(self) -> Header:
        """Writes the tables that are still open and, when all is durable, the header; returns it."""
        size = self.header.cluster_size
        self._write_table()
        l1_offset = self._take(-(-len(self._l1) * 8 // size)) * size
        table_clusters, blocks = refcount_clusters(self._next, size * 8 // self.header.refcount_bits, size)
        refcounts = self._take(table_clusters + blocks)
        self.file.truncate(self._next * size)
        self.file.pwrite(l1_offset, self._l1.astype(">u8").tobytes())
        self._write_refcounts(refcounts, table_clusters, blocks)
        self.file.flush()
        header = self.header._replace(
            l1_size=len(self._l1),
            l1_table_offset=l1_offset,
            refcount_table_offset=refcounts * size,
            refcount_table_clusters=table_clusters,
        )
        write_header(self.file, header)
        self.file.flush()
        return header

    def _write_refcounts(self, first: int, table_clusters: int, blocks: int) -> None:
        size = self.header.cluster_size
        per_block = size * 8 // self.header.refcount_bits
        table = np.zeros(table_clusters * size // 8, np.uint64)
        table[:blocks] = (first + table_clusters + np.arange(blocks, dtype=np.uint64)) * np.uint64(size)
        self.file.pwrite(first * size, table.astype(">u8").tobytes())
        step = max(1, _COUNTS_AT_ONCE // per_block)
        for block in range(0, blocks, step):
            number = min(step, blocks - block)
            lo, hi = block * per_block, (block + number) * per_block
            counts = np.zeros(hi - lo, f"u{max(1, self.header.refcount_bits // 8)}")
            counts[: max(0, self._next - lo)] = 1
            compressed = self._compressed_counts[lo:hi]
            counts[: len(compressed)] = np.maximum(counts[: len(compressed)], compressed)
            self.file.pwrite((first + table_clusters + block) * size, pack_counts(counts, self.header.refcount_order))

    def _take(self, clusters: int) -> int:
        first = self._next
        self._next += clusters
        return first

    def _turn_to(self, cluster: int) -> int:
        """Makes the L2 table of a guest cluster the open one, and returns the cluster's index in it."""
        index, within = divmod(cluster, self.header.l2_entries)
        if index != self._index:
            self._write_table()
            self._index = index
        return within

    def _write_table(self) -> None:
        if self._index >= 0:
            host = self._take(1) * self.header.cluster_size
            self._compressed_end = 0
            self.file.pwrite(host, self._table.astype(">u8").tobytes())
            self._l1[self._index] = host | layout.COPIED
            self._table[:] = 0
            self._index = -1

    def _references(self, host_cluster: int) -> int:
        return int(self._compressed_counts[host_cluster]) if host_cluster < len(self._compressed_counts) else 0

    def _reference(self, first: int, uses: NDArray[np.int64]) -> None:
        """Counts uses of host clusters from `first` on by compressed data."""
        last = first + len(uses)
        if last > len(self._compressed_counts):
            self._compressed_counts = np.append(self._compressed_counts, np.zeros(last + 1024, np.uint32))
        self._compressed_counts[first:last] += uses.astype(np.uint32)
