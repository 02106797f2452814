"""Refcounts: how many references point to each host cluster, in blocks under one table.

Specification: section Host cluster management. Counts change in memory; the flush steps of `metadata` write them. A higher count
is durable before anything points to the cluster, a lower one is written when nothing does any more.
"""

from __future__ import annotations

import errno
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cowherd.errors import HostFileError, ImageCorrupt
from cowherd.extents import Ranges, normalised
from cowherd.formats.qcow2 import layout, refcount_table
from cowherd.formats.qcow2.header import Header
from cowherd.formats.qcow2.state import ImageState
from cowherd.storage.blocks import BlockFile
from cowherd.storage.hostfile import Buffer

Counts = NDArray[np.unsignedinteger[Any]]
"""Refcounts in the narrowest unsigned type that holds the width; a TiB in 64 KiB clusters has 32 MiB of them."""

_TABLE_GROWTH = 2


def unpack_counts(data: Buffer, order: int) -> Counts:
    """Returns the refcounts in one or more blocks, one element each; entries below a byte start at the lowest bit."""
    if order >= 3:
        width = 1 << (order - 3)
        return np.frombuffer(data, f">u{width}").astype(f"u{width}")
    bits = 1 << order
    raw = np.frombuffer(data, np.uint8)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return ((raw[:, None] >> shifts) & np.uint8((1 << bits) - 1)).reshape(-1)


def pack_counts(counts: Counts, order: int) -> bytes:
    """Returns refcounts as a block has them: the inverse of `unpack_counts`. The counts must fit in the width."""
    if order >= 3:
        return counts.astype(f">u{1 << (order - 3)}").tobytes()
    bits = 1 << order
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    fields = counts.astype(np.uint8).reshape(-1, 8 // bits) << shifts
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(fields, axis=1)
    return packed.tobytes()


def read_table(file: BlockFile, header: Header) -> NDArray[np.int64]:
    """Returns the file offset of each refcount block, 0 if there is none. Raises `ImageFormatError` for a misaligned one."""
    return np.array(refcount_table.read_table(file, header), np.int64)


def _split_at_multiples(runs: Ranges, unit: int) -> Ranges:
    """Splits each run [first, end) at the multiples of `unit`; returns the pieces sorted by their first."""
    begin = runs[:, 0] // unit
    number = (runs[:, 1] - 1) // unit - begin + 1
    owner = np.repeat(np.arange(len(runs)), number)
    place = (begin[owner] + np.arange(len(owner)) - np.repeat(np.cumsum(number) - number, number)) * unit
    pieces = np.column_stack((np.maximum(runs[owner, 0], place), np.minimum(runs[owner, 1], place + unit)))
    return pieces[np.argsort(pieces[:, 0], kind="stable")]


class Refcounts:
    """The refcounts of an image that is open for writing. Cluster numbers count host clusters from the file's start."""

    def __init__(self, state: ImageState):
        self._state, self.file = state, state.file
        self.per_block = self.header.cluster_size * 8 // self.header.refcount_bits
        self.table = read_table(self.file, self.header)
        self._dtype = np.dtype(f"u{max(1, self.header.refcount_bits // 8)}")
        self._block_clusters: frozenset[int] | None = None
        self._blocks: dict[int, Counts] = {}
        self._dirty: set[int] = set()
        self._new: set[int] = set()
        self._hint = 0

    @property
    def header(self) -> Header:
        """The header as it is now."""
        return self._state.header

    @property
    def maximum(self) -> int:
        """The largest count that the width holds."""
        return (1 << self.header.refcount_bits) - 1

    @property
    def dirty_bytes(self) -> int:
        """Memory of the blocks that the next flush writes."""
        return len(self._dirty) * self.header.cluster_size

    @property
    def block_clusters(self) -> frozenset[int]:
        """The host clusters that hold refcount blocks."""
        if self._block_clusters is None:
            self._block_clusters = frozenset((self.table[self.table != 0] // self.header.cluster_size).tolist())
        return self._block_clusters

    def count(self, cluster: int) -> int:
        """Returns the refcount of a host cluster, 0 if no block covers it."""
        block, index = divmod(cluster, self.per_block)
        return int(self._block(block)[index]) if self._covered(block) else 0

    def allocate(self, wanted: int) -> tuple[int, int]:
        """Takes up to `wanted` adjacent free clusters and sets their count to 1.

        Returns (first cluster, number) of the first free run at or after the place where the last search stopped; the number is
        at least 1.
        """
        block, index = divmod(self._hint, self.per_block)
        while True:
            self._ensure_block(block)
            counts = self._block(block)
            if not counts[index : index + wanted].any():
                found = index
            else:
                free = np.flatnonzero(counts[index:] == 0)
                found = index + int(free[0]) if len(free) else self.per_block
            if found < self.per_block:
                break
            block, index = block + 1, 0
        taken = counts[found : found + wanted]
        used = np.flatnonzero(taken)
        number = int(used[0]) if len(used) else len(taken)
        taken[:number] = 1
        self._dirty.add(block)
        first = block * self.per_block + found
        self._hint = first + number
        return first, number

    def allocate_run(self, number: int) -> int:
        """Takes exactly `number` adjacent free clusters, as a table needs them; returns the first.

        A run longer than a region would hit the block at the start of the next one, so it goes behind all that is counted so far.
        """
        if number < self.per_block:
            return self._allocate_within_region(number)
        covered = np.flatnonzero(self.table)
        block = int(covered[-1]) + 1 if len(covered) else 0
        if block + self._blocks_for(number) > len(self.table):
            self._grow_table(block + self._blocks_for(number))
            block = int(np.flatnonzero(self.table)[-1]) + 1
            # The grown table itself lies behind all others, and may leave no room in turn: then it is grown once more.
            if block + self._blocks_for(number) > len(self.table):
                return self.allocate_run(number)
        return self._take_fresh_regions(block, number)

    def _allocate_within_region(self, number: int) -> int:
        # Runs that turn out too short are kept until the end, so that the search does not find them again.
        passed: list[tuple[int, int]] = []
        first, got = self.allocate(number)
        while got < number:
            start, more = self.allocate(number - got)
            if start == first + got:
                got += more
            else:
                passed.append((first, got))
                first, got = start, more
        for start, count in passed:
            self.change(start, count, -1)
        return first

    def change(self, first: int, number: int, delta: int) -> None:
        """Adds `delta` to the counts of adjacent clusters.

        Raises `ImageCorrupt` if a count would fall below zero or outgrow its width: the tables contradict it.
        """
        end = first + number
        while first < end:
            block, index = divmod(first, self.per_block)
            take = min(end - first, self.per_block - index)
            if not self._covered(block):
                raise ImageCorrupt(self.file.path, f"host cluster {first} is in use, but has no refcount")
            counts = self._block(block)[index : index + take]
            lowest, highest = int(counts.min()) + delta, int(counts.max()) + delta
            if lowest < 0 or highest > self.maximum:
                raise ImageCorrupt(self.file.path, f"the refcount of a host cluster near {first} contradicts the tables")
            if delta >= 0:
                counts += counts.dtype.type(delta)
            else:
                counts -= counts.dtype.type(-delta)
            self._dirty.add(block)
            if delta < 0:
                self._hint = min(self._hint, first)
            first += take

    def decrease(self, runs: Ranges) -> Ranges:
        """Lowers the count of each cluster by the number of runs [first, end) that hold it; runs may overlap, in any order.

        Returns the clusters whose count has become 0. Raises `ImageCorrupt` as `change` does.
        """
        pieces = _split_at_multiples(runs, self.per_block)
        blocks = pieces[:, 0] // self.per_block
        by_block = np.split(pieces, np.flatnonzero(np.diff(blocks)) + 1)
        return normalised(np.concatenate([self._decrease_block(part) for part in by_block]))

    def _decrease_block(self, runs: Ranges) -> Ranges:
        """Does `decrease` for runs of one block."""
        low, high = int(runs[:, 0].min()), int(runs[:, 1].max())
        block, index = divmod(low, self.per_block)
        if not self._covered(block):
            raise ImageCorrupt(self.file.path, f"host cluster {low} is in use, but has no refcount")
        # Each run adds one at its first cluster and takes one away at its end; the sums in between are what each cluster loses.
        gone = np.zeros(high - low + 1, np.int64)
        np.add.at(gone, runs[:, 0] - low, 1)
        np.subtract.at(gone, runs[:, 1] - low, 1)
        gone = np.cumsum(gone)[:-1]
        counts = self._block(block)[index : index + high - low]
        if int(gone.max()) > self.maximum or (counts < gone.astype(counts.dtype)).any():
            raise ImageCorrupt(self.file.path, f"the refcount of a host cluster near {low} contradicts the tables")
        counts -= gone.astype(counts.dtype)
        self._dirty.add(block)
        self._hint = min(self._hint, low)
        unused = low + np.flatnonzero((counts == 0) & (gone > 0))
        return normalised(np.column_stack((unused, unused + 1)))

    def last_used(self) -> int:
        """Returns the number of clusters up to the last one in use, that one included."""
        for block in np.flatnonzero(self.table)[::-1].tolist():
            used = np.flatnonzero(self._block(block))
            if len(used):
                return int(block * self.per_block + used[-1] + 1)
        return 0

    def write_blocks(self) -> None:
        """Writes changed refcount blocks; the table on disk does not name new ones yet."""
        for block in sorted(self._dirty):
            self.file.pwrite(int(self.table[block]), pack_counts(self._blocks[block], self.header.refcount_order))
        self._dirty.clear()

    @property
    def has_new_blocks(self) -> bool:
        """Whether there are blocks that the table on disk does not point to yet."""
        return bool(self._new)

    def write_table(self) -> None:
        """Writes the table entries of new blocks; the blocks must be durable."""
        for block in sorted(self._new):
            self.file.pwrite(self.header.refcount_table_offset + block * 8, int(self.table[block]).to_bytes(8, "big"))
        self._new.clear()

    def replace_all(self, counts: Counts) -> None:
        """Sets every count, to repair an image left dirty: `counts` has one element a cluster; all clusters behind them are free.

        Raises `ImageCorrupt` if the table has no room for the blocks that are missing.
        """
        # A missing block takes a cluster, which must be counted itself and may need one block more: repeat until nothing changes.
        missing: list[int] = []
        while True:
            needed = -(-(len(counts) + len(missing)) // self.per_block)
            if needed > len(self.table):
                raise ImageCorrupt(self.file.path, "the refcount table is too small for the clusters in use")
            now_missing = [block for block in range(needed) if not self._covered(block)]
            if now_missing == missing:
                break
            missing = now_missing
        wanted = np.zeros(needed * self.per_block, self._dtype)
        wanted[: len(counts)] = counts
        for number, block in enumerate(missing, len(counts)):  # behind all that is in use
            wanted[number] = 1
            self._add_block(block, number)
        for block in np.flatnonzero(self.table).tolist():
            part = wanted[block * self.per_block : (block + 1) * self.per_block] if block < needed else wanted[:0]
            full = np.zeros(self.per_block, self._dtype)
            full[: len(part)] = part
            if not np.array_equal(full, self._block(block)):
                self._blocks[block] = full
                self._dirty.add(block)

    def _covered(self, block: int) -> bool:
        return bool(block < len(self.table) and self.table[block])

    def _block(self, block: int) -> Counts:
        counts = self._blocks.get(block)
        if counts is None:
            data = self.file.pread(int(self.table[block]), self.header.cluster_size)
            counts = self._blocks[block] = unpack_counts(data, self.header.refcount_order)
        return counts

    def _add_block(self, block: int, cluster: int) -> Counts:
        """Puts an empty block for region `block` into host cluster `cluster`; the caller sets the count of that cluster."""
        counts = self._blocks[block] = np.zeros(self.per_block, self._dtype)
        self.table[block] = cluster * self.header.cluster_size
        self._block_clusters = None
        self._dirty.add(block)
        self._new.add(block)
        return counts

    def _ensure_block(self, block: int) -> None:
        """Makes a refcount block for region `block` if it has none: the new block is the first cluster of its own region."""
        if block >= len(self.table):
            self._grow_table(block + 1)
        if not self._covered(block):
            self._add_block(block, block * self.per_block)[0] = 1

    def _take_fresh_regions(self, block: int, number: int) -> int:
        """Takes `number` adjacent clusters in regions from `block` on, none of which has a refcount block yet.

        The blocks come first, then the run; returns its first cluster. The table must have room.
        """
        blocks = self._blocks_for(number)
        start = block * self.per_block
        used = blocks + number
        for index in range(blocks):
            counts = self._add_block(block + index, start + index)
            counts[: max(0, min(self.per_block, used - index * self.per_block))] = 1
        return start + blocks

    def _blocks_for(self, number: int) -> int:
        """Returns the number of blocks that count `number` clusters and themselves."""
        return -(-number // (self.per_block - 1))

    def _grow_table(self, entries: int) -> None:
        """Moves the table to a larger run of clusters behind everything that the old one could describe.

        The new table and the blocks that count it are durable before the header names them; the old table's clusters are freed
        after that.
        """
        size = self.header.cluster_size
        old_entries = len(self.table)
        clusters = self._clusters_of_table(max(entries, old_entries * _TABLE_GROWTH))
        if clusters * size > layout.MAX_REFCOUNT_TABLE_BYTES:
            clusters = self._clusters_of_table(entries)
        if clusters * size > layout.MAX_REFCOUNT_TABLE_BYTES:
            too_large = OSError(errno.EFBIG, "the format allows no larger file with this cluster size and refcount width")
            raise HostFileError(self.file.path, "grow", too_large)
        self.table = np.concatenate((self.table, np.zeros(clusters * size // 8 - old_entries, np.int64)))
        first = self._take_fresh_regions(old_entries, clusters)
        self.write_blocks()
        self.file.pwrite(first * size, self.table.astype(">u8").tobytes())
        self._new.clear()
        old_first, old_number = self.header.refcount_table_offset // size, self.header.refcount_table_clusters
        grown = self.header._replace(refcount_table_offset=first * size, refcount_table_clusters=clusters)
        self._state.replace_header(grown)
        self.change(old_first, old_number, -1)

    def _clusters_of_table(self, entries: int) -> int:
        """Returns the clusters of a table with room for `entries` and for the blocks that count the table itself."""
        clusters = 0
        while True:
            wanted = -(-(entries + self._blocks_for(clusters or 1)) * 8 // self.header.cluster_size)
            if wanted == clusters:
                return clusters
            clusters = wanted
