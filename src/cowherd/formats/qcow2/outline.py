"""The outline of a qcow2 image: its L1 table in memory, its L2 tables decoded one at a time, entry by entry.

Specification: section Cluster mapping.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from itertools import chain, compress

from cowherd.formats.outline import NeedsArrays
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.descriptor import standard_place
from cowherd.formats.qcow2.header import Header, read_header
from cowherd.formats.qcow2.words import all_bits, unpacked
from cowherd.formats.reference import BackingReference
from cowherd.kinds import BACKING, COMPRESSED, DATA, ENDLESS, NOWHERE, cut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cowherd.formats.qcow2.bitmaps import Bitmap
    from cowherd.formats.qcow2.compressed import CompressedReader
    from cowherd.kinds import Row
    from cowherd.storage.blocks import BlockFile

MOST_L1_ENTRIES = 1 << 14
_FLAGS = ~layout.L2_OFFSET_MASK
_NOTHING = bytes(256)
_SPARSE = 8
"""If fewer than one in so many blocks of a table hold entries, only these are looked at."""
_MOST_INDICES = 1 << 13
"""Indices that are kept for the tables of all images: to make them anew for each takes longer than to look at its entries."""
_REMEMBERED = 2
"""Number of decoded tables to keep: a caller that goes through an image looks at one table for a while."""


class TableOutline:
    """A qcow2 image; see `cowherd.formats.layer.LayerOutline`."""

    format = "qcow2"
    has_subclusters = False
    _kept_indices: tuple[int, ...] = ()

    def __init__(self, file: BlockFile):
        """Takes over `file` unless it raises: `NeedsArrays`, or what reading the header raises."""
        self.file = file
        self.depth = self.entries_met = 0
        self.header = read_header(file)
        self._refuse_unusual(self.header)
        self._l1 = unpacked(file.pread(self.header.l1_table_offset, self.header.l1_size * 8))
        self._tables = [word & layout.L1_OFFSET_MASK for word in self._l1]
        if any(offset % self.header.cluster_size for offset in self._tables):
            raise NeedsArrays
        self._decoded: dict[int, list[Row]] = {}
        self._reader: CompressedReader | None = None

    @staticmethod
    def _refuse_unusual(header: Header) -> None:
        if header.crypt_method or header.external_data_file or header.extended_l2 or header.l1_size > MOST_L1_ENTRIES:
            raise NeedsArrays

    @property
    def data(self) -> BlockFile:
        """The file itself; see `Layer.data`."""
        return self.file

    @property
    def size(self) -> int:
        """Virtual size in bytes: QEMU counts whole sectors only."""
        return self.header.disk_size

    @property
    def backing(self) -> BackingReference | None:
        """The backing file as the image names it, or None."""
        return self.header.backing

    @property
    def granularity(self) -> int:
        """Bytes of a cluster."""
        return self.header.cluster_size

    @property
    def table_bytes(self) -> int:
        """Bytes of all L2 tables."""
        return sum(map(bool, self._tables)) * self.header.cluster_size

    def metadata_preallocated(self) -> bool:
        """Returns whether the image uses more clusters than its file occupies; see `Layer.metadata_preallocated`."""
        from cowherd.formats.qcow2.block_status import metadata_preallocated

        return metadata_preallocated(self.file, self.header)

    def bitmaps(self) -> tuple[Bitmap, ...] | None:
        """Returns the persistent bitmaps; see `Layer.bitmaps`."""
        from cowherd.formats.qcow2.bitmaps import bitmaps_of

        return bitmaps_of(self.file, self.header)

    def rows(self, start: int, end: int) -> list[Row]:
        """Returns a cover of [start, end). Raises `NeedsArrays`, `HostFileError`."""
        reach = self.header.l2_entries * self.header.cluster_size
        found: list[Row] = []
        for index in range(start // reach, -(-end // reach)):
            low, high = max(start, index * reach), min(end, (index + 1) * reach)
            if self._tables[index]:
                found += _clipped(self._table(index), low, high)
            else:
                found.append((low, high - low, NOWHERE, self.depth, BACKING))
        return found

    def units_with_data(self) -> int | None:
        """Returns how many clusters hold data, None if not all tables have only entries of such: then `rows` tells."""
        uncommon = (_FLAGS | (self.header.cluster_size - 1)) & ~layout.COPIED
        count, clusters = 0, -(-self.size // self.header.cluster_size)
        for index, table in enumerate(self._tables):
            if table:
                words = self._words(index)[: max(0, clusters - index * self.header.l2_entries)]
                entries = list(filter(None, words))
                if all_bits(entries) & uncommon or layout.COPIED in entries:
                    return None
                count += len(entries)
        return count

    def empty_until(self, start: int) -> int:
        """Returns the first guest byte at or after `start` that a table may map, `ENDLESS` if there is none."""
        reach = self.header.l2_entries * self.header.cluster_size
        for index in range(start // reach, len(self._tables)):
            if self._tables[index]:
                return max(start, index * reach)
        return ENDLESS

    def read_compressed(self, parts: Iterable[tuple[int, memoryview]]) -> None:
        """Fills buffers with guest bytes of compressed clusters; see `Layer.read_compressed`. Several threads may call it."""
        from cowherd.formats.qcow2.compressed import CompressedReader

        if self._reader is None:
            self._reader = CompressedReader(self.file, self.header, self._words_at)
        self._reader.read(parts)

    def close(self) -> None:
        """Closes the file."""
        self.file.close()

    def _table(self, index: int) -> list[Row]:
        rows = self._decoded.get(index)
        if rows is None:
            words = self._words(index)
            while len(self._decoded) >= _REMEMBERED:
                del self._decoded[next(iter(self._decoded))]
            rows = self._decoded[index] = self._rows_of(words, index * self.header.l2_entries * self.header.cluster_size)
        return rows

    def _words(self, index: int) -> array[int]:
        return unpacked(self.file.pread(self._tables[index], self.header.cluster_size))

    def _words_at(self, clusters: list[int]) -> list[int]:
        """Returns the L2 entries of guest clusters; their tables must exist."""
        tables: dict[int, array[int]] = {}
        found = []
        for cluster in clusters:
            index, within = divmod(cluster, self.header.l2_entries)
            if index not in tables:
                tables[index] = self._words(index)
            found.append(tables[index][within])
        return found

    def _rows_of(self, words: array[int], guest: int) -> list[Row]:
        """Returns the rows of a whole table whose first entry maps guest offset `guest`.

        The entries of a row lie one cluster after another, or are all equal, or are all of compressed clusters.
        """
        size, depth, copied = self.header.cluster_size, self.depth, layout.COPIED
        uncommon = _FLAGS | (size - 1)
        used = self._used(words)
        self.entries_met += len(used)
        rows: list[Row] = []
        add = rows.append
        end = guest
        begun = expected = step = 0
        packed = longer = False
        for index in used:  # nothing is called for the entry of most clusters: calls would take as long as all the rest
            word, start = words[index], guest + index * size
            if start == end and (word == expected or (packed and word & layout.COMPRESSED_FLAG)):
                end += size
                expected += step
                longer = True
                continue
            if longer:
                rows[-1] = self._lengthened(rows[-1], end, begun ^ (expected - step))
                longer = False
            if start > end:
                add((end, start - end, NOWHERE, depth, BACKING))
            host = word ^ copied
            if host and not host & uncommon:  # the entry of most clusters
                add((start, size, host, depth, DATA))
                packed, step = False, size
            else:
                host, kind = self._meaning(word)
                add((start, size, host, depth, kind))
                packed, step = kind == COMPRESSED, 0 if host == NOWHERE else size
            begun, end, expected = word, start + size, word + step
        if longer:
            rows[-1] = self._lengthened(rows[-1], end, begun ^ (expected - step))
        reach = guest + len(words) * size
        if end < reach:
            add((end, reach - end, NOWHERE, depth, BACKING))
        return rows

    def _used(self, words: array[int]) -> list[int]:
        """Returns the indices of the entries that are not 0; passes over empty blocks, which are most of a sparse table."""
        data, size = words.tobytes(), len(_NOTHING)
        blocks = [begin for begin in range(0, len(data), size) if data[begin : begin + size] != _NOTHING]
        if len(blocks) * size > len(data) // _SPARSE:
            return list(compress(self._indices(len(words)), words))
        ranges = (range(begin // words.itemsize, (begin + size) // words.itemsize) for begin in blocks)
        return list(chain.from_iterable(compress(part, words[part.start : part.stop]) for part in ranges))

    @classmethod
    def _indices(cls, number: int) -> Sequence[int]:
        """Returns at least the indices of so many entries."""
        if number > _MOST_INDICES:
            return range(number)
        if not cls._kept_indices:
            cls._kept_indices = tuple(range(_MOST_INDICES))
        return cls._kept_indices

    def _lengthened(self, row: Row, end: int, change: int) -> Row:
        """Returns the row of the first of several entries, lengthened to the guest offset `end`.

        `change` has the bits in which the first and the last of these entries differ.
        """
        start, _, host, depth, kind = row
        if change & _FLAGS:
            raise NeedsArrays
        return start, end - start, host, depth, kind

    def _meaning(self, word: int) -> tuple[int, int]:
        """Returns the host offset and the kind of an entry."""
        if word & layout.COMPRESSED_FLAG:
            return NOWHERE, COMPRESSED
        place = standard_place(word, self.header)
        if place is None:
            raise NeedsArrays
        return place


def _clipped(rows: list[Row], start: int, end: int) -> list[Row]:
    """Returns the part of a cover that lies in [start, end); the cover contains all of that range."""
    first = bisect_right(rows, start, key=lambda row: row[0]) - 1
    if start == rows[0][0] and end == rows[-1][0] + rows[-1][1]:
        return rows
    last = bisect_right(rows, end - 1, key=lambda row: row[0])
    return [cut(row, start, end) for row in rows[first:last]]
