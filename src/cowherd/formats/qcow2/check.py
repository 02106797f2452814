"""The consistency check of a qcow2 image: what `qemu-img check` reports, in its words, and with its numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.counter import expand
from cowherd.formats.qcow2.damage import Messages, copied_messages
from cowherd.formats.qcow2.entries import COPIED
from cowherd.formats.qcow2.header import Header
from cowherd.formats.qcow2.linear_tables import ClusterReader
from cowherd.formats.qcow2.refcounts import Counts, unpack_counts
from cowherd.formats.qcow2.references import Group, References, expected_refcounts, refcount_table_words
from cowherd.formats.qcow2.report import CheckReport, file_length, total_clusters
from cowherd.formats.qcow2.roots import L1Entries, Root, entries_in_parts
from cowherd.formats.qcow2.runs import Facts, Integers, Mask, Runs, read_clusters
from cowherd.storage.blocks import BlockFile

_GROUP_BYTES = 1 << 19
_LONG_RUN = 64
_FAR_CLUSTERS = 1 << 26
"""How many clusters behind the file's end refcounts are looked up: a truncated image still has theirs."""
_SHARED_OR_FREE, _ALONE, _UNREADABLE = 0, 1, 2


def check(file: BlockFile, header: Header) -> CheckReport:
    """Compares the refcounts and copied flags of an image with its tables.

    Reads tables only, never data, and repairs nothing. Costs memory for the counts (48 MiB for a fully mapped TiB in 64 KiB
    clusters) and some MiB more. Raises `ImageFormatError` for a snapshot table or bitmap directory that can't be read, and
    `UnsupportedFeature` for an external data file.
    """
    stored = _Stored(file, header)
    survey = _Survey(header, stored)
    references = expected_refcounts(file, header, survey.take)
    comparison = _Comparison(references)
    if not references.check_errors or references.clusters:
        comparison.run(stored)
        survey.check_flags(file, references.messages)
    return CheckReport(
        corruptions=references.corruptions + comparison.corruptions + survey.wrong_flags,
        leaks=comparison.leaks,
        check_errors=references.check_errors + comparison.check_errors,
        image_end_offset=(comparison.highest + 1) * header.cluster_size,
        total_clusters=total_clusters(header),
        allocated_clusters=survey.allocated,
        fragmented_clusters=survey.fragmented,
        compressed_clusters=survey.compressed,
        messages=tuple(references.messages.lines),
        messages_cut=references.messages.cut,
    )


class _Stored:
    """The refcounts that the image itself holds, whatever state they are in."""

    def __init__(self, file: BlockFile, header: Header):
        self.file, self.header = file, header
        self.clusters = -(-file_length(file) // header.cluster_size)
        self.per_block = header.cluster_size * 8 // header.refcount_bits
        offsets = refcount_table_words(file, header) & np.uint64(layout.REFCOUNT_OFFSET_MASK)
        self.offsets = offsets.astype(np.int64)
        self.unreadable = (self.offsets & (header.cluster_size - 1) != 0) | (self.offsets < 0)
        used = np.flatnonzero(self.offsets)
        self.covered = (int(used[-1]) + 1) * self.per_block if len(used) else 0

    def groups(self, clusters: int) -> Iterator[tuple[int, Counts, Integers]]:
        """Yields (first cluster, counts, unreadable clusters) of parts of the first `clusters` clusters; others are 0."""
        step = max(1, _GROUP_BYTES // self.header.cluster_size)
        blocks = min(len(self.offsets), -(-clusters // self.per_block))
        reader = ClusterReader(self.file, step, self.header.cluster_size)
        for begin in range(0, blocks, step):
            part = slice(begin, min(begin + step, blocks))
            if not self.offsets[part].any():
                continue
            offsets = np.where(self.unreadable[part] | (self.offsets[part] == 0), -1, self.offsets[part])
            first = begin * self.per_block
            counts = unpack_counts(reader.read(offsets).reshape(-1).data, self.header.refcount_order)[: clusters - first]
            blind = np.flatnonzero(self.unreadable[part])
            unreadable = expand(blind * self.per_block, np.full(len(blind), self.per_block))
            yield first, counts, unreadable[unreadable < len(counts)]

    def states(self) -> NDArray[np.uint8]:
        """Returns for each cluster whether its refcount is exactly 1, including truncated clusters that still have one."""
        size = max(self.clusters + 1, min(self.covered, _FAR_CLUSTERS))
        states = np.zeros(size, np.uint8)
        for first, counts, unreadable in self.groups(size):
            if counts.any():
                np.equal(counts, 1, out=states[first : first + len(counts)].view(np.bool_))
            states[first + unreadable] = _UNREADABLE
        return states

    def count(self, cluster: int) -> int:
        """Returns the refcount of one cluster, which is readable."""
        block, index = divmod(cluster, self.per_block)
        if block >= len(self.offsets) or not self.offsets[block]:
            return 0
        raw = read_clusters(self.file, self.offsets[block : block + 1], self.header.cluster_size)
        return int(unpack_counts(raw.tobytes(), self.header.refcount_order)[index])


class _Comparison:
    """Compares the stored refcounts with the counted references."""

    def __init__(self, references: References):
        self.references, self.messages = references, references.messages
        self.corruptions = self.leaks = self.check_errors = self.highest = 0
        self._signalled = False

    def run(self, stored: _Stored) -> None:
        """Compares the count of every cluster."""
        wanted, done = self.references.counts, 0
        for first, counts, unreadable in stored.groups(self.references.clusters):
            self._compare_with_nothing(wanted[done:first], done)
            done = first + len(counts)
            self._compare(counts, wanted[first:done], first, unreadable, stored)
        self._compare_with_nothing(wanted[done:], done)

    def _compare_with_nothing(self, wanted: Counts, first: int) -> None:
        """Compares a part for which the image stores no refcounts."""
        for begin in range(0, len(wanted), _GROUP_BYTES):
            part = wanted[begin : begin + _GROUP_BYTES]
            if part.any():
                self._judge(np.zeros(len(part), part.dtype), part, first + begin, np.empty(0, np.int64))

    def _compare(self, counts: Counts, wanted: Counts, first: int, unreadable: Integers, stored: _Stored) -> None:
        if len(unreadable) and not self._signalled:
            self._signal((first + unreadable) // stored.per_block, stored)
        if len(counts) == len(wanted) and not len(unreadable) and np.array_equal(counts, wanted):
            used = len(counts) if counts[-1] else len(counts) - int((counts[::-1] != 0).argmax())
            self.highest = max(self.highest, first + used - 1) if counts.any() else self.highest
            return
        padded = np.zeros(len(counts), wanted.dtype)
        padded[: len(wanted)] = wanted
        self._judge(counts, padded, first, unreadable)

    def _signal(self, blocks: Integers, stored: _Stored) -> None:
        """Adds a message, once, that a refcount block does not begin a cluster."""
        misaligned = blocks[stored.offsets[blocks] & (stored.header.cluster_size - 1) != 0]
        if len(misaligned):
            self._signalled = True
            block, host = int(misaligned[0]), int(stored.offsets[misaligned[0]]) % (1 << 64)
            place = f"Refblock offset {host:#x} unaligned (reftable index: {hex(block) if block else 0})"
            self.messages.add(f"qcow2: Image is corrupt: {place}; further non-fatal corruption events will be suppressed")

    def _judge(self, counts: Counts, wanted: Counts, first: int, unreadable: Integers) -> None:
        blind = np.zeros(len(counts), np.bool_)
        blind[unreadable] = True
        used = np.flatnonzero(~blind & ((counts != 0) | (wanted != 0)))
        if len(used):
            self.highest = max(self.highest, first + int(used[-1]))
        self.check_errors += len(unreadable)
        self.corruptions += int((~blind & (counts < wanted)).sum())
        self.leaks += int((~blind & (counts > wanted)).sum())
        self.messages.extend(
            f"Can't get refcount for cluster {first + index}: Input/output error"
            if blind[index]
            else f"{'ERROR' if counts[index] < wanted[index] else 'Leaked'} cluster {first + index} "
            f"refcount={counts[index]} reference={wanted[index]}"
            for index in np.flatnonzero(blind | (counts != wanted)).tolist()
        )


class _Survey:
    """Facts of the active L2 tables beside the references: how they are used, and whether their copied flags are right."""

    def __init__(self, header: Header, stored: _Stored):
        self.header, self._stored = header, stored
        self._states = stored.states()
        self.allocated = self.fragmented = self.compressed = self.wrong_flags = 0
        self._damaged = [np.empty(0, np.int64)]

    def take(self, group: Group) -> None:
        """Looks at L2 tables that have just been read."""
        if not group.active.any():
            return
        runs, facts = group.runs, group.facts
        often = group.active[runs.table]
        compressed = int(often[facts.compressed].sum())
        self.compressed += compressed
        self.allocated += compressed + int((often * runs.length)[facts.allocated].sum())
        self.fragmented += compressed + self._fragmented(runs, facts, often)
        wrong = self._wrong_flags(runs, facts)
        if wrong.any():
            wrong[~self._matters(group.offsets)[runs.table]] = 0
            self.wrong_flags += int((wrong * often).sum())
            self._damaged.append(group.offsets[np.unique(runs.table[(wrong > 0) & (often > 0)])])

    def check_flags(self, file: BlockFile, messages: Messages) -> None:
        """Checks the copied flags of the active L1 table, and adds a message for each wrong flag of L1 and L2 tables."""
        root = Root(self.header.l1_table_offset, self.header.l1_size, True)
        for entries in entries_in_parts(file, self.header, root, self.header.l1_size, file_length(file)):
            self.wrong_flags += int(self._wrong_l1_flags(entries).sum())
        if self.wrong_flags:
            damaged = np.concatenate(self._damaged)
            wrong = (self._wrong_l1_flags, self._wrong_flags)
            messages.extend(copied_messages(file, self.header, damaged, *wrong, self._stored.count))

    def _fragmented(self, runs: Runs, facts: Facts, often: Integers) -> int:
        """Counts the clusters that do not follow the allocated one before them in their table."""
        allocated = np.flatnonzero(facts.allocated)
        table, begin = runs.table[allocated], facts.offset[allocated]
        end = begin + runs.length[allocated] * self.header.cluster_size
        apart = (table[1:] == table[:-1]) & (begin[1:] != end[:-1])
        return int(often[allocated[1:]][apart].sum())

    def _wrong_flags(self, runs: Runs, facts: Facts) -> Integers:
        """Returns how many entries of each run have a copied flag that contradicts the stored refcount."""
        wrong = np.zeros(len(runs.word), np.int64)
        copied = (runs.word & COPIED) != 0
        first = facts.offset >> self.header.cluster_bits
        for index in np.flatnonzero(facts.allocated & (runs.length >= _LONG_RUN)).tolist():
            begin, length = int(first[index]), int(runs.length[index])
            states = self._states[begin : begin + length]
            alone = int(np.count_nonzero(states == _ALONE))
            unreadable = int(np.count_nonzero(states == _UNREADABLE)) if alone != length else 0
            wrong[index] = length - alone - unreadable if copied[index] else alone
        short = np.flatnonzero(facts.allocated & (runs.length < _LONG_RUN))
        if len(short):
            lengths = runs.length[short]
            clusters, flags = expand(first[short], lengths), np.repeat(copied[short], lengths)
            contradict = self._contradict(clusters, flags).astype(np.int64)
            wrong[short] = np.add.reduceat(contradict, np.cumsum(lengths) - lengths)
        return wrong

    def _matters(self, tables: Integers) -> Mask:
        """Whether the flags in each table are checked: not if its L1 entry has no offset, or its own refcount can't be read."""
        clusters = np.minimum(tables >> self.header.cluster_bits, len(self._states) - 1)
        matters: Mask = (tables != 0) & (self._states[clusters] != _UNREADABLE)
        return matters

    def _wrong_l1_flags(self, entries: L1Entries) -> Integers:
        clusters = entries.offset >> self.header.cluster_bits
        wrong = self._contradict(clusters, (entries.word & COPIED) != 0) & (entries.offset != 0)
        return np.where(wrong, 1, 0)

    def _contradict(self, clusters: Integers, copied: Mask) -> Mask:
        near = clusters < len(self._states)
        states = self._states[np.where(near, clusters, 0)]
        states[~near] = _SHARED_OR_FREE
        wrong: Mask = (states != _UNREADABLE) & ((states == _ALONE) != copied)
        return wrong
