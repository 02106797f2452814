"""Counts how often an image's tables point to each host cluster: what its refcounts should be.

Counts what QEMU's check counts (block/qcow2-refcount.c): header, L1 and L2 tables, data and compressed clusters, snapshots,
snapshot table, refcount table and blocks, encryption header, bitmaps. An L2 table is read once, however many L1 tables share it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cowherd.errors import UnsupportedFeature
from cowherd.formats.qcow2 import bitmaps, layout, refcount_table
from cowherd.formats.qcow2.counter import Counter, rank
from cowherd.formats.qcow2.damage import Messages, overflow, past_end, reaches_past_end, table_messages
from cowherd.formats.qcow2.header import Header
from cowherd.formats.qcow2.layout import Field, Structure
from cowherd.formats.qcow2.linear_tables import ClusterReader
from cowherd.formats.qcow2.refcounts import Counts
from cowherd.formats.qcow2.report import file_length
from cowherd.formats.qcow2.roots import entries_in_parts, followable, snapshot_table_facts
from cowherd.formats.qcow2.runs import Facts, Integers, Mask, Runs, classify, find_runs, join_runs, stored_groups
from cowherd.storage.blocks import BlockFile

ENCRYPTION = Structure(Field("offset", 0, "Q", "file offset of the encryption header"), Field("length", 8, "Q", "its bytes"))

MOST_CLUSTERS = (1 << 31) - 1
"""A file with more host clusters is not checked; QEMU has the same limit."""
MOST_CROOKED_TABLES = 1024
"""How many L2 tables that do not begin a cluster are followed: they may overlap, so that a small file could hold any number."""
_GROUP_ENTRIES = 1 << 16
"""L2 entries that are read together: few enough for the arrays to stay in the processor's cache."""
_RUNS_AT_ONCE = 1 << 12
"""Runs of entries that are classified together. If tables are long runs, these come from many groups."""
_PENDING_ENTRIES = 1 << 18
_RESERVED_IN_TABLE = np.uint64(0x1FF)


class Group(NamedTuple):
    """Runs of L2 entries that are classified together. `runs.table` is an index into the other arrays."""

    runs: Runs
    facts: Facts
    offsets: Integers
    """The tables' file offsets."""
    active: Integers
    """How many entries of the active L1 table point to each table."""


@dataclass
class References:
    """What `expected_refcounts` found.

    `counts` has one element a host cluster, in the type of the image's refcounts, up to the last cluster in use. The counts are
    complete only if `corruptions` (entries that break the specification or point outside the file) and `check_errors` (tables
    that could not be read) are 0. `clusters` is the number of host clusters in the file.
    """

    counts: Counts
    clusters: int
    corruptions: int = 0
    check_errors: int = 0
    messages: Messages = field(default_factory=Messages)


def refcount_table_words(file: BlockFile, header: Header) -> NDArray[np.uint64]:
    """Returns the entries of the refcount table, unchecked."""
    return np.array(refcount_table.table_words(file, header), np.uint64)


def expected_refcounts(file: BlockFile, header: Header, watch: Callable[[Group], None] | None = None) -> References:
    """Counts the references to every host cluster; calls `watch` with every group of L2 tables on the way.

    Needs memory for the counts (32 MiB for a TiB in 64 KiB clusters) and some MiB more, and time in proportion to the file's
    tables, whatever they claim. Raises `ImageFormatError` for a snapshot table or bitmap directory that can't be read, and
    `UnsupportedFeature` for an external data file.
    """
    if header.external_data_file:
        raise UnsupportedFeature(file.path, "checking an image with an external data file")
    clusters = -(-file_length(file) // header.cluster_size)
    if clusters > MOST_CLUSTERS:
        references = References(np.zeros(0, np.uint8), 0, check_errors=1)
        references.messages.add(f"ERROR the file has more than {MOST_CLUSTERS} clusters")
        return references
    return _Count(file, header, watch).run()


class _L2Tables:
    """The distinct L2 tables, sorted by offset, with the numbers of references from all L1 tables and from the active one."""

    def __init__(self) -> None:
        self.offsets = self.times = self.active = np.empty(0, np.int64)
        self._pending: list[tuple[Integers, bool]] = []
        self._pending_entries = 0

    def add(self, offsets: Integers, *, active: bool) -> None:
        self._pending.append((offsets, active))
        self._pending_entries += len(offsets)
        # A merge costs as much as all that is merged already; a quarter more each time keeps the sum of them linear.
        if self._pending_entries >= max(_PENDING_ENTRIES, len(self.offsets) // 4):
            self.merge()

    def merge(self) -> None:
        """Merges the pending tables into the three columns."""
        pending, self._pending, self._pending_entries = self._pending, [], 0
        for is_active in (False, True):
            for offsets in _joined([offsets for offsets, active in pending if active == is_active]):
                self._merge(*_counted(offsets), is_active=is_active)

    def _merge(self, offsets: Integers, times: Integers, *, is_active: bool) -> None:
        """Merges distinct tables, sorted by offset, with the number of references to each."""
        active = times.copy() if is_active else np.zeros(len(times), np.int64)
        if not len(self.offsets):
            self.offsets, self.times, self.active = offsets, times, active
            return
        place = np.searchsorted(self.offsets, offsets)
        known = self.offsets[np.minimum(place, len(self.offsets) - 1)] == offsets
        self.times[place[known]] += times[known]
        if is_active:
            self.active[place[known]] += times[known]
        if not known.all():
            place, new = place[~known], ~known
            self.offsets = np.insert(self.offsets, place, offsets[new])
            self.times = np.insert(self.times, place, times[new])
            self.active = np.insert(self.active, place, active[new])


def _joined(parts: list[Integers]) -> list[Integers]:
    return [np.concatenate(parts)] if parts else []


def _counted(values: Integers) -> tuple[Integers, Integers]:
    """Returns the distinct values, sorted, and how often each occurs; sorts `values` in place, as they may be millions."""
    if not (values[1:] > values[:-1]).all():
        values.sort()
    first = np.flatnonzero(np.concatenate((np.ones(min(1, len(values)), np.bool_), values[1:] != values[:-1])))
    return values[first], np.diff(first, append=len(values))


class _Count:
    """One run over all tables, in QEMU's order."""

    def __init__(self, file: BlockFile, header: Header, watch: Callable[[Group], None] | None):
        self.file, self.header, self.watch = file, header, watch
        self.file_size = file_length(file)
        self.counter = Counter(-(-self.file_size // header.cluster_size), header.refcount_bits)
        self.messages = Messages()
        self.corruptions = self.check_errors = 0

    def run(self) -> References:
        table_bytes, incomplete = self._snapshot_table()
        self._region(0, self.header.cluster_size)
        self._count_tables()
        self._report_overflows()
        self.corruptions += len(incomplete)
        self._region(self.header.snapshots_offset, table_bytes)
        self._region(self.header.refcount_table_offset, self.header.refcount_table_clusters * self.header.cluster_size)
        encryption = self.header.extension(layout.EXTENSION_ENCRYPTION)
        if encryption is not None and len(encryption) >= ENCRYPTION.size:
            place = ENCRYPTION.unpack(encryption)
            self._region(place["offset"], place["length"])
        self._count_bitmaps()
        self._count_refcount_blocks()
        self._report_overflows()
        counter = self.counter
        self.corruptions += counter.overflows
        return References(counter.counts[: counter.used], counter.clusters, self.corruptions, self.check_errors, self.messages)

    def _snapshot_table(self) -> tuple[int, list[int]]:
        size, incomplete = snapshot_table_facts(self.file, self.header)
        self.messages.extend(f"ERROR snapshot table entry {index} is incomplete" for index in incomplete)
        return size, incomplete

    def _region(self, offset: int, size: int) -> bool:
        """Counts the clusters that a region of the file touches; adds a message and returns False if it ends past the file."""
        if size <= 0:
            return True
        if reaches_past_end(offset, size, self.header, self.file_size):
            self.corruptions += 1
            self.messages.add(past_end(offset, size))
            return False
        self._touch(offset, size)
        return True

    def _report_overflows(self) -> None:
        for cluster in self.counter.overflowed:
            self.messages.extend(overflow(cluster * self.header.cluster_size))
        self.counter.overflowed.clear()

    def _touch(self, offset: int, size: int) -> None:
        first = offset >> self.header.cluster_bits
        self.counter.add_one(first, ((offset + size - 1) >> self.header.cluster_bits) - first + 1)

    def _count_tables(self) -> None:
        """Counts all that L1 and L2 tables point to; if anything is wrong, reads the tables again for the messages."""
        before = self.corruptions + self.check_errors
        tables = self._count_roots()
        followed = self._followed(tables)
        damaged = self._count_l2(tables.offsets[followed], tables.times[followed], tables.active[followed])
        if self.corruptions + self.check_errors != before:
            self.messages.extend(table_messages(self.file, self.header, damaged, self.file_size))

    def _count_roots(self) -> _L2Tables:
        tables = _L2Tables()
        for root, inside in followable(self.file, self.header):
            if root.problem is not None:
                self.corruptions += 1
                continue
            if reaches_past_end(root.offset, root.entries * 8, self.header, self.file_size):
                self.corruptions += 1
            else:
                self._touch(root.offset, root.entries * 8)
            if inside < 0:
                self.check_errors += 1
                continue
            for entries in entries_in_parts(self.file, self.header, root, inside, self.file_size):
                self.corruptions += int(entries.flaws.sum())
                tables.add(entries.offset[~entries.past_end], active=root.active)
        tables.merge()
        for begin in range(0, len(tables.offsets), _PENDING_ENTRIES):
            offsets = tables.offsets[begin : begin + _PENDING_ENTRIES]
            misaligned = (offsets & (self.header.cluster_size - 1)) != 0
            times = tables.times[begin : begin + _PENDING_ENTRIES]
            # A table that does not begin a cluster touches two of them.
            self.counter.add(offsets >> self.header.cluster_bits, np.where(misaligned, 2, 1), times)
        return tables

    def _followed(self, tables: _L2Tables) -> Mask | slice:
        """Returns which of the tables to read; adds a message for those that are left out."""
        misaligned = (tables.offsets & (self.header.cluster_size - 1)) != 0
        excess = np.flatnonzero(misaligned)[MOST_CROOKED_TABLES:]
        if not len(excess):
            return slice(None)
        self.check_errors += len(excess)
        self.messages.add(f"ERROR {len(excess)} L2 tables are not checked: they are not cluster aligned")
        followed = np.ones(len(misaligned), np.bool_)
        followed[excess] = False
        return followed

    def _count_l2(self, offsets: Integers, times: Integers, active: Integers) -> Integers:
        """Counts the clusters that the L2 tables at `offsets` point to; returns the offsets of the tables with faults."""
        damaged = [np.empty(0, np.int64)]
        step = max(1, _GROUP_ENTRIES // self.header.l2_entries)
        reader = ClusterReader(self.file, step, self.header.cluster_size)
        gathered: list[Runs] = []
        waiting = 0
        for begin in stored_groups(self.file, offsets, step, self.header.cluster_size):
            runs = find_runs(reader.read(offsets[begin : begin + step]), self.header)
            gathered.append(runs._replace(table=runs.table + begin))
            waiting += len(runs.table)
            if waiting >= _RUNS_AT_ONCE:
                damaged.append(self._look_at(join_runs(gathered), offsets, times, active))
                gathered, waiting = [], 0
        if gathered:
            damaged.append(self._look_at(join_runs(gathered), offsets, times, active))
        return np.concatenate(damaged)

    def _look_at(self, runs: Runs, offsets: Integers, times: Integers, active: Integers) -> Integers:
        """Counts the clusters that runs point to; returns the file offsets of their tables with faults."""
        facts = classify(runs, self.header, self.file_size)
        often = times[runs.table]
        self._count_runs(runs, facts, often)
        if self.watch is not None and len(runs.table):
            first, last = int(runs.table[0]), int(runs.table[-1]) + 1
            among = runs._replace(table=runs.table - first)
            self.watch(Group(among, facts, offsets[first:last], active[first:last]))
        wrong = facts.flaws * runs.length + facts.past_end
        if not wrong.any():
            return np.empty(0, np.int64)
        self.corruptions += int((wrong * often).sum())
        return offsets[np.unique(runs.table[wrong > 0])]

    def _count_runs(self, runs: Runs, facts: Facts, often: Integers) -> None:
        bits = self.header.cluster_bits
        first = facts.offset >> bits
        inside = runs.length - facts.past_end
        self.counter.add(first, np.where(facts.allocated, inside, 0), often)
        if facts.misaligned.any():  # each touches a second cluster
            self.counter.add(first + 1, np.where(facts.misaligned, inside, 0), often)
        if facts.compressed.any():
            touched = ((facts.offset + facts.size - 1) >> bits) - first + 1
            self.counter.add(first, np.where(facts.compressed & (facts.past_end == 0), touched, 0), often)

    def _count_bitmaps(self) -> None:
        found = bitmaps.read_bitmaps(self.file, self.header)
        if not found:
            return
        directory = bitmaps.EXTENSION.unpack(self.header.extension(layout.EXTENSION_BITMAPS) or b"")
        self._region(directory["directory_offset"], directory["directory_size"])
        budget = self.file_size  # bytes of bitmap tables; more than the file holds means that they overlap
        for bitmap in found:
            size = bitmap.table_entries * 8
            budget -= size
            if not self._region(bitmap.table_offset, size):
                continue
            if budget < 0 or not self._count_bitmap(bitmap):
                self.check_errors += 1
                self.messages.add(f"ERROR bitmap table at offset {bitmap.table_offset:#x} can't be read")

    def _count_bitmap(self, bitmap: bitmaps.Bitmap) -> bool:
        """Counts the clusters of a bitmap; returns False if its table breaks the specification."""
        words = np.frombuffer(self.file.pread(bitmap.table_offset, bitmap.table_entries * 8), ">u8").astype(np.uint64)
        offsets = (words & np.uint64(layout.L2_OFFSET_MASK)).astype(np.int64)
        # [Bitmap table] Bits 9 to 55 are an offset. Without one, bit 0 says whether the bits are all ones or all zeros.
        rest = words & ~np.uint64(layout.L2_OFFSET_MASK)
        if ((rest > 1) | ((offsets != 0) & (rest != 0)) | (offsets % self.header.cluster_size != 0)).any():
            return False
        outside = offsets[offsets >= self.file_size]
        self.corruptions += len(outside)
        self.messages.extend(past_end(offset, self.header.cluster_size) for offset in outside.tolist())
        inside = offsets[(offsets != 0) & (offsets < self.file_size)] >> self.header.cluster_bits
        self.counter.add(inside, np.ones(len(inside), np.int64), np.ones(len(inside), np.int64))
        return True

    def _count_refcount_blocks(self) -> None:
        words = refcount_table_words(self.file, self.header)
        clusters = (words >> np.uint64(self.header.cluster_bits)).astype(np.int64)
        reserved = (words & _RESERVED_IN_TABLE) != 0
        misaligned = ~reserved & ((words & np.uint64(self.header.cluster_size - 1)) != 0)
        outside = ~reserved & ~misaligned & (clusters >= self.counter.clusters)
        counted = np.flatnonzero((words != 0) & ~reserved & ~misaligned & ~outside)
        own = clusters[counted]
        # A block that is listed again counts once more each time. As floats, because 64-bit counts exceed signed integers.
        seen = np.minimum(self.counter.counts[own].astype(np.float64) + rank(own) + 1, self.counter.maximum)
        self.counter.add(own, np.ones(len(own), np.int64), np.ones(len(own), np.int64))
        refcount = np.ones(len(words))
        refcount[counted] = seen
        wrong = np.flatnonzero(reserved | misaligned | outside | (refcount != 1))
        self.corruptions += len(wrong)
        self.messages.extend(
            f"ERROR refcount table entry {index} has reserved bits set"
            if reserved[index]
            else f"ERROR refcount block {index} is not cluster aligned; refcount table entry corrupted"
            if misaligned[index]
            else f"ERROR refcount block {index} is outside image"
            if outside[index]
            else f"ERROR refcount block {index} refcount={int(refcount[index])}"
            for index in wrong.tolist()
        )
