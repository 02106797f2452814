"""Builds a new qcow2 image front to back, without ever going back: data in guest order, each L2 table behind its data, the other
tables last.

Nothing points anywhere until the header is written at the very end. So no step needs a flush of its own, and an unfinished file
is not an image.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.create import l1_entries, refcount_clusters, refcount_table
from cowherd.formats.qcow2.descriptor import compressed_word
from cowherd.formats.qcow2.header import Header, write_header
from cowherd.formats.qcow2.words import WORD_BYTES, packed, packed_counts, used_counts, zeros

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.storage.blocks import BlockFile

_COUNTS_AT_ONCE = 1 << 18
_ENTRIES_AT_ONCE = 1 << 16

Run = tuple[int, int]
"""Adjacent guest clusters: the number of the first, and their count."""


class Builder:
    """Decides where each guest cluster goes; the caller writes the data there. Guest clusters must come in ascending order."""

    def __init__(self, file: BlockFile, header: Header, *, shows_zeros: bool = False):
        """`file` is empty, or a device; `header` is that of `create.new_header`, in which the tables have no place yet.

        With `shows_zeros`, placed clusters read as zeros until a guest writes to them, whatever their bytes are.
        """
        header.pack()  # refuses what does not fit before anything is written
        self.file, self.header = file, header
        self._flags = layout.COPIED | (layout.ZERO_FLAG if shows_zeros else 0)
        self._l1 = zeros(l1_entries(header))
        self._words_each = header.l2_entry_size // WORD_BYTES
        self._empty = zeros(header.l2_entries * self._words_each)
        self._table = self._empty[:]
        self._index = -1
        self._next = 1  # host cluster; the first is the header's
        self._compressed_end = 0
        self._compressed_counts = array("I")
        self._maximum = (1 << header.refcount_bits) - 1

    def place_data(self, cluster: int, number: int, bitmap: int = layout.ALL_SUBCLUSTERS) -> int:
        """Maps `number` guest clusters from `cluster` on to adjacent new host clusters; returns the file offset of the first.

        With extended L2 entries, `bitmap` is the second word of each; by default all subclusters are data.
        """
        per_table = self.header.l2_entries
        host = self._take(number) * self.header.cluster_size
        self._compressed_end = 0  # compressed data must not go back to a cluster before this one: the file grows front to back
        done = 0
        while done < number:
            within, place = self._turn_to(cluster + done), host + done * self.header.cluster_size
            if not within and not self.header.extended_l2 and number - done > per_table:
                done += self._write_full_tables(cluster + done, (number - done) // per_table, place)
            else:
                count = min(number - done, per_table - within)
                self._fill(within, count, place, [bitmap] * count)
                done += count
        return host

    def place(self, runs: Sequence[Run], bitmaps: Sequence[int] | None = None) -> int:
        """Does what `place_data` does for any clusters in ascending order, and puts them one behind the other in the file.

        `bitmaps` has the second word of each cluster.
        """
        first = self._take(sum(count for _, count in runs)) * self.header.cluster_size
        self._compressed_end = 0
        done = 0
        for cluster, left in runs:
            while left:
                within = self._turn_to(cluster)
                count = min(left, self.header.l2_entries - within)
                shown = [layout.ALL_SUBCLUSTERS] * count if bitmaps is None else bitmaps[done : done + count]
                self._fill(within, count, first + done * self.header.cluster_size, shown)
                cluster, left, done = cluster + count, left - count, done + count
        return first

    def _fill(self, within: int, count: int, host: int, bitmaps: Sequence[int]) -> None:
        """Maps entries of the open table to adjacent clusters."""
        size, each = self.header.cluster_size, self._words_each
        word = host | self._flags
        begin, end = within * each, (within + count) * each
        self._table[begin:end:each] = array("Q", range(word, word + count * size, size))
        if self.header.extended_l2:
            self._table[begin + 1 : end : each] = array("Q", bitmaps)

    def _write_full_tables(self, cluster: int, tables: int, host: int) -> int:
        """Writes up to `tables` whole tables that map adjacent clusters, and returns how many clusters they map.

        The open table must be empty.
        """
        from cowherd.formats.qcow2.linear_tables import adjacent_words  # numpy is worth its import for that many

        per_table, size = self.header.l2_entries, self.header.cluster_size
        tables = min(tables, max(1, _ENTRIES_AT_ONCE // per_table))
        number = tables * per_table
        first = self._take(tables) * size
        self.file.pwrite(first, adjacent_words(host | self._flags, number, size))
        index = cluster // per_table
        word = first | layout.COPIED
        self._l1[index : index + tables] = array("Q", range(word, word + tables * size, size))
        self._index = -1
        return number

    def place_compressed(self, cluster: int, length: int) -> int:
        """Maps a guest cluster to `length` bytes of compressed data, packed behind the last; returns their file offset."""
        return self.place_packed([cluster], [length])[0]

    def place_packed(self, clusters: Sequence[int], lengths: Sequence[int]) -> list[int]:
        """Does what `place_compressed` does for many ascending clusters of one L2 table; returns the file offset of each."""
        size, bits, per_table = self.header.cluster_size, self.header.cluster_bits, self.header.l2_entries
        self._turn_to(clusters[0])  # first: it may write another table, behind which this goes
        end, hosts = self._compressed_end, []
        for cluster, length in zip(clusters, lengths, strict=True):
            if not end or self._references(end // size) >= self._maximum:  # with narrow refcounts few clusters may share one
                end = self._take(1) * size
            host, end = end, end + length
            if end > self._next * size:  # the rest goes to the next cluster, which is adjacent
                self._take(1)
            self._refer_to(host // size, (end - 1) // size)
            self._table[cluster % per_table * self._words_each] = compressed_word(host, length, bits)
            hosts.append(host)
        self._compressed_end = end
        return hosts

    def finish(self) -> Header:
        """Writes the tables that are still open, flushes, then writes the header; returns the header."""
        size = self.header.cluster_size
        self._write_table()
        l1_offset = self._take(-(-len(self._l1) * WORD_BYTES // size)) * size
        table_clusters, blocks = refcount_clusters(self._next, size * 8 // self.header.refcount_bits, size)
        refcounts = self._take(table_clusters + blocks)
        self.file.reach(self._next * size)
        table = packed(self._l1)
        # A file reads as zeros behind what is written; a device may hold anything there.
        self.file.pwrite(l1_offset, table.ljust(-(-len(table) // size) * size, b"\0") if self.file.is_block_device else table)
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
        size, order = self.header.cluster_size, self.header.refcount_order
        per_block = size * 8 // self.header.refcount_bits
        self.file.pwrite(first * size, refcount_table(first + table_clusters, blocks, self.header, table_clusters))
        step = max(1, _COUNTS_AT_ONCE // per_block)
        for block in range(0, blocks, step):
            number = min(step, blocks - block)
            low, high = block * per_block, (block + number) * per_block
            counts = used_counts(max(0, min(self._next, high) - low), high - low, order)
            # A cluster of compressed data has a count for each guest cluster in it; all others in use have 1.
            compressed = self._compressed_counts[low:high]
            counts[: len(compressed)] = array(counts.typecode, map(max, counts, compressed))
            self.file.pwrite((first + table_clusters + block) * size, packed_counts(counts, order))

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
            self.file.pwrite(host, packed(self._table))
            self._l1[self._index] = host | layout.COPIED
            self._table = self._empty[:]
            self._index = -1

    def _references(self, host_cluster: int) -> int:
        return self._compressed_counts[host_cluster] if host_cluster < len(self._compressed_counts) else 0

    def _refer_to(self, first: int, last: int) -> None:
        """Counts a use of the host clusters `first` and `last` by compressed data; `last` is `first` or the one after."""
        if last >= len(self._compressed_counts):
            self._compressed_counts.extend(bytes(last + 1024))
        self._compressed_counts[first] += 1
        if last > first:
            self._compressed_counts[last] += 1
