"""The two levels of tables that map guest clusters to the file: the L1 table in memory, L2 tables through a bounded cache.

Specification: section Cluster mapping.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cowherd import extents as ext
from cowherd.errors import ImageFormatError
from cowherd.extents import Extents
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.cache import TableCache
from cowherd.formats.qcow2.descriptor import standard_place
from cowherd.formats.qcow2.entries import Entries, EntryError, decode
from cowherd.formats.qcow2.header import Header
from cowherd.formats.qcow2.linear_tables import ClusterReader, steady_tables, whole_tables
from cowherd.formats.qcow2.state import ImageState
from cowherd.kinds import ENDLESS
from cowherd.storage.blocks import BlockFile

L1Table = NDArray[np.uint64]

_GROUP_CLUSTERS = 1 << 16
"""Clusters that are decoded at once: enough to keep numpy busy, few enough for the arrays to stay in the processor's cache."""
_GROUP_CLUSTERS_EXTENDED = 1 << 14
_ALWAYS_WALKED = 1 << 30
"""With more bytes of L2 tables than this, the L1 table must not name the same ones again and again: a file of some MiB could
otherwise keep a reader busy for days."""


def read_l1(file: BlockFile, offset: int, entries: int) -> L1Table:
    """Reads an L1 table of `entries` words; the caller has checked the number against the format's limit."""
    return np.frombuffer(file.pread(offset, entries * 8), ">u8").astype(np.uint64)


def l2_offsets(l1: L1Table) -> NDArray[np.int64]:
    """Returns the file offset of the L2 table of each L1 entry, 0 if there is none."""
    return (l1 & np.uint64(layout.L1_OFFSET_MASK)).astype(np.int64)


class Tables:
    """The active mapping of an image.

    `extents` may be called from several threads at once; the rest belongs to the one thread that writes.
    """

    def __init__(self, state: ImageState):
        """Reads the L1 table. Clean L2 tables are kept in `cache`, changed ones in memory until the next flush."""
        self._state, self.file = state, state.file
        self.l1 = read_l1(self.file, self.header.l1_table_offset, self.header.l1_size)
        self._check_l1()
        self.cache = TableCache()
        self._owner = object()
        self._dirty: dict[int, Entries] = {}
        self._dirty_l1: set[int] = set()

    @property
    def header(self) -> Header:
        """The header as it is now."""
        return self._state.header

    @property
    def reach(self) -> int:
        """Guest bytes that one L2 table maps."""
        return self.header.l2_entries * self.header.cluster_size

    def extents(self, start: int, length: int) -> Extents:
        """Returns a cover of [start, start+length). Raises `ImageFormatError` if a table breaks the specification."""
        if length <= 0:
            return ext.single(0, 0, ext.BACKING)
        end = start + length
        first, last = start // self.reach, -(-end // self.reach)
        reader = None
        if last - first > 1:
            reader = ClusterReader(self.file, min(last - first, self._tables_at_once), self.header.cluster_size)
        try:
            parts = [self._decode_group(*group, start, end, reader) for group in self._groups(first, last)]
        except EntryError as error:
            raise ImageFormatError(self.file.path, f"Image is corrupt: {error}") from error
        return ext.clip(ext.concat(parts), start, end)

    def place(self, start: int, length: int) -> tuple[int, int] | None:
        """Returns the host offset and the kind of a range inside one cluster; None if it is not that simple."""
        header = self.header
        cluster, within = start >> header.cluster_bits, start & (header.cluster_size - 1)
        if within + length > header.cluster_size or header.extended_l2:
            return None
        index, entry = divmod(cluster, header.l2_entries)
        table = self.l2(index)
        if table is None:
            return ext.NOWHERE, ext.BACKING
        found = standard_place(int(table[entry, 0]), header)
        if found is None or found[1] != ext.DATA:
            return found
        return found[0] + within, ext.DATA

    def empty_until(self, start: int) -> int:
        """Returns the first guest byte at or after `start` that a stored table may map; `ENDLESS` if there is none."""
        first, step = start // self.reach, 1
        while first < len(self.l1):  # ever larger steps, so that a near table is found without a look at all the others
            mapped = np.flatnonzero(self._mapped(first, first + step))
            if len(mapped):
                return max(start, (first + int(mapped[0])) * self.reach)
            first, step = first + step, step * 8
        return ENDLESS

    def l2(self, index: int) -> Entries | None:
        """Returns the L2 table of L1 entry `index`, which must not be changed, or None if there is none."""
        offset = self.l2_offset(index)
        return None if not offset else self._load(offset)

    def words_at(self, clusters: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Returns the first words of the L2 entries of guest clusters, all of which must be mapped."""
        words = np.empty(len(clusters), np.uint64)
        indices, within = np.divmod(clusters, self.header.l2_entries)
        for index in ext.distinct(indices).tolist() if len(clusters) > 1 else indices.tolist():
            table = self.l2(index)
            if table is None:
                raise AssertionError("only mapped clusters have entries")
            chosen = indices == index
            words[chosen] = table[within[chosen], 0]
        return words

    def l2_offset(self, index: int) -> int:
        """Returns the file offset of the L2 table of L1 entry `index`, 0 if there is none."""
        return int(self.l1[index]) & layout.L1_OFFSET_MASK

    def owns_l2(self, index: int) -> bool:
        """Whether this image's active state alone uses the L2 table of `index`, so that it may be changed in place."""
        return bool(int(self.l1[index]) & layout.COPIED)

    def writable_l2(self, index: int) -> Entries:
        """Returns the L2 table of `index` for changing in place; the next flush writes it. The image must own it."""
        offset = self.l2_offset(index)
        if offset not in self._dirty:
            table = self.cache.pop(self._key(offset))
            self._dirty[offset] = self._read(offset) if table is None else table.copy()
        return self._dirty[offset]

    def place_l2(self, index: int, offset: int, table: Entries) -> None:
        """Puts a new L2 table at `offset` under L1 entry `index`."""
        self.cache.pop(self._key(offset))
        self._dirty[offset] = table
        self.set_l1(index, offset | layout.COPIED)

    def set_l1(self, index: int, word: int) -> None:
        """Changes an L1 entry; the next flush writes it."""
        self.l1[index] = word
        self._dirty_l1.add(index)

    def forget(self, offset: int) -> None:
        """Drops a table whose cluster is freed, written or not."""
        self.cache.pop(self._key(offset))
        self._dirty.pop(offset, None)

    @property
    def dirty_bytes(self) -> int:
        """Memory of the L2 tables that the next flush writes."""
        return len(self._dirty) * self.header.cluster_size

    @property
    def has_dirty_l2(self) -> bool:
        """Whether L2 tables have changed since the last flush."""
        return bool(self._dirty)

    @property
    def has_dirty_l1(self) -> bool:
        """Whether L1 entries have changed since the last flush."""
        return bool(self._dirty_l1)

    def write_l2(self) -> None:
        """Writes changed L2 tables to the file; what they point to must be durable."""
        for offset, table in sorted(self._dirty.items(), key=lambda item: item[0]):
            self.file.pwrite(offset, table.astype(">u8").tobytes())
        for offset, table in self._dirty.items():
            self.cache.put(self._key(offset), table)
        self._dirty.clear()

    def write_l1(self) -> None:
        """Writes changed L1 entries, in the smallest run that holds them; the L2 tables that they point to must be durable."""
        if self._dirty_l1:
            first, last = min(self._dirty_l1), max(self._dirty_l1) + 1
            self.file.pwrite(self.header.l1_table_offset + first * 8, self.l1[first:last].astype(">u8").tobytes())
            self._dirty_l1.clear()

    def _check_l1(self) -> None:
        offsets = l2_offsets(self.l1)
        misaligned = (offsets & (self.header.cluster_size - 1)) != 0
        if misaligned.any():
            index = int(misaligned.argmax())
            problem = f"Image is corrupt: L1 entry {index} points to {int(offsets[index]):#x}, which is not a cluster's start"
            raise ImageFormatError(self.file.path, problem)
        used = offsets[offsets != 0]
        if len(used) * self.header.cluster_size <= _ALWAYS_WALKED:
            return
        used.sort()
        repeated = int(np.count_nonzero(used[1:] == used[:-1]))
        if repeated > len(used) // 2:
            problem = f"Image is corrupt: {repeated} of its {len(used)} L1 entries point to the L2 table of another one"
            raise ImageFormatError(self.file.path, problem)

    def _groups(self, first: int, last: int) -> Iterator[tuple[int, int, bool]]:
        """Yields (first L1 index, end, mapped) of runs of entries without a table, and of runs with tables, at most one group."""
        if last - first == 1:  # most requests of a guest lie inside one table
            yield first, last, self.l2_offset(first) != 0
            return
        mapped = self._mapped(first, last)
        borders = np.flatnonzero(np.diff(mapped)) + 1
        step = self._tables_at_once
        for begin, end in zip([0, *borders.tolist()], [*borders.tolist(), len(mapped)], strict=True):
            if not mapped[begin]:
                yield first + begin, first + end, False
                continue
            for part in range(begin, end, step):
                yield first + part, first + min(part + step, end), True

    def _mapped(self, first: int, last: int) -> NDArray[np.bool_]:
        """Returns which of the L1 entries have a table, without most of the tables in holes of a sparse file: they are empty."""
        offsets, size = l2_offsets(self.l1[first:last]), self.header.cluster_size
        mapped: NDArray[np.bool_] = offsets != 0
        index = 0
        while not self._dirty and index < len(mapped) and mapped[index:].any():
            index += int(mapped[index:].argmax())
            data = self.file.next_data(int(offsets[index]))
            if data is None or data >= int(offsets[index]) + size:
                in_hole = offsets >= offsets[index]
                mapped &= ~in_hole if data is None else ~(in_hole & (offsets + size <= data))
            else:
                index += self._tables_at_once
        return mapped

    @property
    def _tables_at_once(self) -> int:
        most = _GROUP_CLUSTERS_EXTENDED if self.header.extended_l2 else _GROUP_CLUSTERS
        return max(1, most // self.header.l2_entries)

    def _decode_group(self, first: int, last: int, mapped: bool, start: int, end: int, reader: ClusterReader | None) -> Extents:
        """Returns the extents of L1 entries [first, last), in whole clusters that touch [start, end)."""
        base, size, per_table = first * self.reach, self.header.cluster_size, self.header.l2_entries
        if not mapped:
            return ext.single(base, (last - first) * self.reach, ext.BACKING)
        skip = max(0, start - base) // size
        stop = min((last - first) * per_table, -(-(end - base) // size))
        if last - first == 1 or reader is None:
            return decode(self._load(self.l2_offset(first))[skip:stop], base + skip * size, self.header)
        tables = self._load_many(first, last, reader)
        steady = steady_tables(tables[:, :, 0], self.header)
        steady[: -(-skip // per_table)] = steady[stop // per_table :] = False  # of a table in part, only that part is decoded
        parts = []
        borders = [0, *(np.flatnonzero(np.diff(steady)) + 1).tolist(), last - first]
        for begin, after in itertools.pairwise(borders):
            low, high = max(skip, begin * per_table), min(stop, after * per_table)
            if steady[begin]:
                parts.append(whole_tables(tables[begin:after, 0, 0], base + begin * self.reach, self.header))
            else:
                parts.append(decode(tables.reshape(-1, self._words)[low:high], base + low * size, self.header))
        return ext.merge(np.concatenate(parts))

    def _load_many(self, first: int, last: int, reader: ClusterReader) -> Entries:
        """Returns the tables of mapped L1 entries, shape (tables, entries, words)."""
        offsets = l2_offsets(self.l1[first:last])
        entries = reader.read(offsets).view(">u8").astype(np.uint64).reshape(last - first, -1, self._words)
        for row in np.flatnonzero(np.isin(offsets, list(self._dirty))) if self._dirty else ():
            entries[row] = self._dirty[int(offsets[row])]
        return entries

    def _load(self, offset: int) -> Entries:
        table = self._dirty.get(offset)
        if table is None:
            table = self.cache.get(self._key(offset))
        if table is None:
            table = self._read(offset)
            self.cache.put(self._key(offset), table)
        return table

    def _key(self, offset: int) -> tuple[object, int]:
        return self._owner, offset

    def _read(self, offset: int) -> Entries:
        data = self.file.pread(offset, self.header.cluster_size)
        return np.frombuffer(data, ">u8").astype(np.uint64).reshape(-1, self._words)

    @property
    def _words(self) -> int:
        return self.header.l2_entry_size // 8
