"""Tells of an image of few tables that they are sound, without numpy: most images that somebody checks are.

It looks for no faults. At the first thing that is not as in a plain sound image it raises `NeedsArrays`, and leaves the image to
`check`, which knows all that may be wrong, and what is sound though it is not plain.
"""

from __future__ import annotations

from array import array
from itertools import compress, count, islice, pairwise

from cowherd.formats.outline import NeedsArrays
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.descriptor import compressed_place
from cowherd.formats.qcow2.outline import MOST_L1_ENTRIES
from cowherd.formats.qcow2.refcount_table import table_words
from cowherd.formats.qcow2.report import CheckReport, file_length, total_clusters
from cowherd.formats.qcow2.words import all_bits, packed_counts, unpacked, used_counts, zero_counts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cowherd.formats.qcow2.header import Header
    from cowherd.storage.blocks import BlockFile

_MOST_CLUSTERS = 1 << 19
"""Number of host clusters; beyond it, importing numpy takes less time than doing without."""
_MOST_TABLE_BYTES = 64 << 20
"""Bytes of L2 tables, of which a sparse file may claim any number."""


def sound_report(file: BlockFile, header: Header) -> CheckReport:
    """Returns what a check of a sound image finds. Raises `NeedsArrays`, `HostFileError`."""
    clusters = -(-file_length(file) // header.cluster_size)
    if header.external_data_file or header.extended_l2 or header.crypt_method or header.nb_snapshots:
        raise NeedsArrays
    if clusters > _MOST_CLUSTERS or header.l1_size > MOST_L1_ENTRIES:
        raise NeedsArrays
    if any(header.extension(kind) is not None for kind in (layout.EXTENSION_BITMAPS, layout.EXTENSION_ENCRYPTION)):
        raise NeedsArrays
    return _Survey(file, header, clusters).report()


class _Survey:
    """What the tables use. Each cluster that is not compressed is used once, which its copied flag says."""

    def __init__(self, file: BlockFile, header: Header, clusters: int):
        self.file, self.header, self.clusters = file, header, clusters
        self.counts = zero_counts(clusters, header.refcount_order)
        self.uses = self.allocated = self.fragmented = self.compressed = 0

    def report(self) -> CheckReport:
        """Goes through all tables."""
        header = self.header
        self._use_bytes(0, header.cluster_size)
        self._use_bytes(header.l1_table_offset, header.l1_size * layout.L1_ENTRY_BYTES)
        self._use_bytes(header.refcount_table_offset, header.refcount_table_clusters * header.cluster_size)
        packed: dict[int, int] = {}
        for table in self._l2_tables():
            self._use(table, 1)
            self._take(unpacked(self.file.pread(table, header.cluster_size)), packed)
        blocks = table_words(self.file, header)
        for block in filter(None, blocks):
            self._use(block, 1)
        if sum(self.counts) != self.uses:
            raise NeedsArrays  # one was used twice
        self._add_shared(packed)
        self._compare(blocks)
        return CheckReport(
            corruptions=0,
            leaks=0,
            check_errors=0,
            image_end_offset=self._end() * header.cluster_size,
            total_clusters=total_clusters(header),
            allocated_clusters=self.allocated,
            fragmented_clusters=self.fragmented,
            compressed_clusters=self.compressed,
            messages=(),
        )

    def _l2_tables(self) -> list[int]:
        """Returns the file offsets of the L2 tables, each of which has its copied flag."""
        words = unpacked(self.file.pread(self.header.l1_table_offset, self.header.l1_size * layout.L1_ENTRY_BYTES))
        tables = [word ^ layout.COPIED for word in filter(None, words)]
        if len(tables) * self.header.cluster_size > _MOST_TABLE_BYTES:
            raise NeedsArrays
        return tables

    def _use_bytes(self, offset: int, length: int) -> None:
        """Counts the clusters of a part of the file, which begins a cluster."""
        self._use(offset, -(-length // self.header.cluster_size))

    def _use(self, offset: int, number: int) -> None:
        """Counts `number` clusters in a row. That nothing else uses them shows in the sum of all counts."""
        first, rest = divmod(offset, self.header.cluster_size)
        if rest or first + number > self.clusters:
            raise NeedsArrays
        self.uses += number
        self._mark(first, number)

    def _mark(self, first: int, number: int) -> None:
        self.counts[first : first + number] = used_counts(number, number, self.header.refcount_order)

    def _take(self, words: array[int], packed: dict[int, int]) -> None:
        """Counts what the entries of an L2 table use; compressed clusters, which may share host clusters, in `packed`.

        What is done for each entry is done in C, as far as that goes: an image's entries are by far the most that it has.
        """
        size = self.header.cluster_size
        entries = list(filter(None, words))
        flags = all_bits(entries)
        if flags & layout.COMPRESSED_FLAG:
            for word in entries:
                if word & layout.COMPRESSED_FLAG:
                    self._take_compressed(word, packed)
            entries = [word for word in entries if not word & layout.COMPRESSED_FLAG]
        if flags & layout.ZERO_FLAG and self.header.version >= 3:
            entries = [place for word in entries if (place := word & ~layout.ZERO_FLAG)]  # it may have a cluster none the less
        if not entries:
            return
        if min(entries) < layout.COPIED or max(entries) >= layout.COPIED + self.clusters * size or all_bits(entries) % size:
            raise NeedsArrays
        breaks = compress(count(1), map(int.__ne__, islice(entries, 1, None), map(size.__add__, entries)))
        borders = [0, *breaks, len(entries)]
        counts, bits = self.counts, self.header.cluster_bits
        for first, last in pairwise(borders):
            cluster = (entries[first] ^ layout.COPIED) >> bits
            if last - first == 1:
                counts[cluster] = 1
            else:
                self._mark(cluster, last - first)
        self.uses += len(entries)
        self.allocated += len(entries)
        self.fragmented += len(borders) - 2

    def _take_compressed(self, word: int, packed: dict[int, int]) -> None:
        offset, length = compressed_place(word, self.header.cluster_bits)
        last = (offset + length - 1) // self.header.cluster_size
        if word & layout.COPIED or last >= self.clusters:
            raise NeedsArrays
        for cluster in range(offset // self.header.cluster_size, last + 1):
            packed[cluster] = packed.get(cluster, 0) + 1
        self.allocated += 1
        self.fragmented += 1
        self.compressed += 1

    def _add_shared(self, packed: dict[int, int]) -> None:
        most = (1 << self.header.refcount_bits) - 1
        for cluster, number in packed.items():
            if self.counts[cluster] or number > most:
                raise NeedsArrays
            self.counts[cluster] = number

    def _compare(self, blocks: Sequence[int]) -> None:
        """Requires that the refcount blocks hold what was counted, and that there are none for what lies behind the file."""
        size, order = self.header.cluster_size, self.header.refcount_order
        per_block = size * 8 >> order
        needed = -(-self.clusters // per_block)
        if any(blocks[needed:]):
            raise NeedsArrays
        for index in range(needed):
            counts = self.counts[index * per_block : (index + 1) * per_block]
            block = blocks[index] if index < len(blocks) else 0
            if block:
                wanted = packed_counts(counts + zero_counts(per_block - len(counts), order), order)
                if self.file.pread(block, size) != wanted:
                    raise NeedsArrays
            elif any(counts):
                raise NeedsArrays

    def _end(self) -> int:
        """Returns the number of clusters up to the last one in use."""
        used = self.counts.tobytes().rstrip(b"\0")
        return -(-len(used) // self.counts.itemsize)
