"""Checks of the tables' content, which need the whole file: offsets, overlaps, refcounts, compressed data.

Each step bounds the cost of the next one: nothing is read whose size a small file could inflate, and a file with more than
`MOST_TABLE_BYTES` of tables is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cowherd.errors import CowherdError, ImageFormatError
from cowherd.formats.qcow2.bitmaps import read_bitmaps
from cowherd.formats.qcow2.check import check
from cowherd.formats.qcow2.header import Header, read_header
from cowherd.formats.qcow2.references import Group, expected_refcounts, refcount_table_words
from cowherd.formats.qcow2.roots import followable, read_entries, snapshot_table_facts
from cowherd.formats.qcow2.runs import Integers
from cowherd.ops.inspect.compressed import Sample
from cowherd.ops.inspect.head import Region
from cowherd.ops.inspect.placement import first_overlap
from cowherd.ops.inspect.report import Check, judge, note, ok, refuse
from cowherd.storage.hostfile import HostFile
from cowherd.text import counted

MOST_TABLE_BYTES = 1 << 30
"""The most bytes of L2 tables, and of refcount blocks, that an inspection reads: those of an 8 TiB disk in 64 KiB clusters."""
MOST_CLUSTERS = 1 << 27
"""The most host clusters that it counts references to."""
_SPARE_BLOCKS = 4


class TablesCheck:
    """One inspection of the tables. `expands_to` is the decompressed bytes of all compressed clusters, None until known."""

    def __init__(self, file: HostFile, regions: list[Region]):
        """`regions` are the tables that the header names; earlier checks found that they do not overlap."""
        self.file, self.regions = file, list(regions)
        self.expands_to: int | None = None
        self.file_size = file.size()

    def run(self) -> Iterator[Check]:
        """Yields the checks; it stops at the first that refuses the image."""
        try:
            self.header = read_header(self.file)
        except CowherdError as error:
            yield refuse("header", _problem(error))
            return
        for step in (
            self._check_named_tables,
            self._check_refcount_table,
            self._check_l1_tables,
            self._check_overlaps,
            self._check_mapping,
        ):
            for found in step():
                yield found
                if found.refused:
                    return

    def _check_named_tables(self) -> Iterator[Check]:
        """Checks the snapshot table and the bitmap directory, and adds their parts to the regions."""
        try:
            size, _ = snapshot_table_facts(self.file, self.header)
            roots = [root for root, _ in followable(self.file, self.header) if not root.active]
            maps = read_bitmaps(self.file, self.header)
        except ImageFormatError as error:
            yield refuse("directories", error.problem)
            return
        problems = [root.problem for root in roots if root.problem]
        self.regions = [region for region in self.regions if region.what != "snapshot table"]
        if size:
            self.regions.append(Region("snapshot table", self.header.snapshots_offset, size))
        self.regions += [Region("snapshot's L1 table", root.offset, root.entries * 8) for root in roots]
        self.regions += [Region("bitmap's table", one.table_offset, one.table_entries * 8) for one in maps]
        outside = next((region for region in self.regions[1:] if region.end > self.file_size), None)
        if outside:
            problems.append(f"the {outside.what} at {outside.offset:#x} leaves the file")
        numbers = f"{counted(len(roots), 'snapshot')}, {counted(len(maps), 'bitmap')}"
        yield judge("directories", problems[0] if problems else None, numbers)

    def _check_refcount_table(self) -> Iterator[Check]:
        words = refcount_table_words(self.file, self.header)
        used = np.flatnonzero(words)
        offsets = words[used]
        size = self.header.cluster_size
        clusters = -(-self.file_size // size)
        self._blocks = offsets.astype(np.int64)
        problem = None
        if (misaligned := (offsets & np.uint64(size - 1)) != 0).any():
            problem = f"entry {used[misaligned.argmax()]} points to {int(offsets[misaligned.argmax()]):#x}, not a cluster's start"
        elif (outside := offsets >= np.uint64(self.file_size)).any():
            problem = f"entry {used[outside.argmax()]} points behind the end of the file"
        elif len(_distinct(self._blocks)) != len(offsets):
            problem = "two of its entries point to the same block"
        elif len(used) and used[-1] > clusters * self.header.refcount_bits // 8 // size + _SPARE_BLOCKS:
            problem = f"it has counts for cluster {used[-1] * size * 8 // self.header.refcount_bits} of {clusters}"
        elif len(used) * size > MOST_TABLE_BYTES or clusters > MOST_CLUSTERS:
            problem = f"{clusters} clusters are too many to inspect"
        yield judge("refcount-blocks", problem, f"{counted(len(used), 'block')}")

    def _check_l1_tables(self) -> Iterator[Check]:
        every = [np.empty(0, np.int64)]
        for root, inside in followable(self.file, self.header):
            if inside < root.entries:
                yield refuse("l1-entries", "the L1 tables hold more than the file does")
                return
            entries = read_entries(self.file, self.header, root, inside, self.file_size)
            if entries.flaws.any():
                place = int(entries.place[(entries.reserved | entries.past_end | entries.misaligned).argmax()])
                yield refuse("l1-entries", f"entry {place} of the L1 table at {root.offset:#x} points to no L2 table of the file")
                return
            own = _distinct(entries.offset)
            if root.active and len(own) != len(entries.offset):
                yield refuse("l1-entries", "two entries of the L1 table point to the same L2 table")
                return
            every.append(own)
        self._l2 = _distinct(np.concatenate(every))
        size = len(self._l2) * self.header.cluster_size
        problem = f"L2 tables of {size} bytes are too large to inspect" if size > MOST_TABLE_BYTES else None
        yield judge("l1-entries", problem, counted(len(self._l2), "L2 table"))

    def _check_overlaps(self) -> Iterator[Check]:
        """Checks all tables against each other, and leaves the regions as one list sorted by offset."""
        size = self.header.cluster_size
        for what, offsets in (("L2 table", self._l2), ("refcount block", self._blocks)):
            self.regions += [Region(what, offset, size) for offset in offsets.tolist()]
        self.regions.sort(key=lambda region: region.offset)
        yield judge("overlaps", first_overlap(self.regions), f"{len(self.regions)} tables")

    def _check_mapping(self) -> Iterator[Check]:
        starts = np.array([region.offset for region in self.regions], np.int64)
        ends = -(-np.array([region.end for region in self.regions], np.int64) // self.header.cluster_size)
        watcher = _Watcher(self.header, starts, ends * self.header.cluster_size)
        try:
            references = expected_refcounts(self.file, self.header, watcher.look)
        except CowherdError as error:
            yield refuse("mapping", _problem(error))
            return
        problem = watcher.problem
        if problem is None and (references.corruptions or references.check_errors):
            problem = next(iter(references.messages.lines), f"{references.corruptions} table entries are wrong")
        self.expands_to = watcher.sample.clusters * self.header.cluster_size
        yield judge("mapping", problem)
        if problem is None:
            yield watcher.sample.check(self.file, self.header)
            yield self._check_counts()

    def _check_counts(self) -> Check:
        report = check(self.file, self.header)
        wrong = report.corruptions + report.check_errors
        if not wrong:
            leaks = counted(report.leaks, "cluster is leaked", "clusters are leaked")
            if report.leaks and not report.allocated_clusters and not self.header.nb_snapshots:
                # Clusters are leaked where a program was killed; but that of all there are none is mapped tells of lost tables.
                return refuse("refcounts", f"{leaks}, and no table maps any other: all content is lost")
            return note("refcounts", leaks) if report.leaks else ok("refcounts")
        problem = f"{wrong} refcounts or copied flags are wrong: {next(iter(report.messages), '')}"
        return note("refcounts", problem) if self.header.dirty else refuse("refcounts", problem)


class _Watcher:
    """Watches L2 tables as they are read, for guest data that lies in a table, and for compressed clusters."""

    def __init__(self, header: Header, starts: Integers, ends: Integers):
        self.starts, self.ends, self.cluster_size = starts, ends, header.cluster_size
        self.problem: str | None = None
        self.sample = Sample()

    def look(self, group: Group) -> None:
        """Examines a group of L2 tables that were just read."""
        facts, runs = group.facts, group.runs
        self.sample.take(facts.offset[facts.compressed], facts.size[facts.compressed])
        length = np.where(facts.allocated, runs.length * self.cluster_size, facts.size)
        held = facts.allocated | facts.compressed
        begin, end = facts.offset[held], facts.offset[held] + length[held]
        following = np.searchsorted(self.ends, begin, "right")
        near = np.minimum(following, len(self.starts) - 1)
        bad = (following < len(self.starts)) & (self.starts[near] < end)
        if bad.any() and self.problem is None:
            table = int(self.starts[near[bad.argmax()]])
            self.problem = f"guest data at {int(begin[bad.argmax()]):#x} lies in a table at {table:#x}"


def _distinct(offsets: Integers) -> Integers:
    """Returns offsets sorted, each once. It sorts, since an attacker can choose numbers whose hashes collide."""
    ordered = np.sort(offsets)
    distinct: Integers = ordered[np.concatenate(([True], ordered[1:] != ordered[:-1]))] if len(ordered) else ordered
    return distinct


def _problem(error: CowherdError) -> str:
    """Returns what an error says, without the name of the file."""
    return str(getattr(error, "problem", "") or getattr(error, "feature", "") or error)
