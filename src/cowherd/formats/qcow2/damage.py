"""The messages of a check about damaged tables, in the words and the order of `qemu-img check`.

Nothing here runs for a sound image. In a damaged one, the tables that are known to be wrong are read once more, entry by entry,
until the list of messages is full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.header import Header
from cowherd.formats.qcow2.roots import L1Entries, Root, entries_in_parts, followable
from cowherd.formats.qcow2.runs import Facts, Integers, Runs, classify, contains_data, find_runs, read_clusters
from cowherd.storage.blocks import BlockFile

MOST_MESSAGES = 10_000
_UNCOPIED = layout.COPIED - 1


class Messages:
    """A list of at most `MOST_MESSAGES` lines. `cut` says whether there were more."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.cut = False

    def add(self, line: str) -> None:
        """Adds one line."""
        self.extend((line,))

    def extend(self, lines: Iterable[str]) -> None:
        """Adds lines until the list is full; does not read the rest of an iterator."""
        for line in lines:
            if len(self.lines) >= MOST_MESSAGES:
                self.cut = True
                return
            self.lines.append(line)


def past_end(offset: int, size: int) -> str:
    """The message for something that reaches a cluster or more past the file's end."""
    return (
        "ERROR: counting reference for region exceeding the end of the file by one cluster or more: "
        f"offset {offset:#x} size {size:#x}"
    )


def overflow(host: int) -> Iterator[str]:
    """The messages for a cluster with more references than a refcount can hold."""
    yield f"ERROR: overflow cluster offset={host:#x}"
    yield (
        "Use qemu-img amend to increase the refcount entry width or qemu-img convert to create a clean copy "
        "if the image cannot be opened for writing"
    )


def reaches_past_end(offset: int, size: int, header: Header, file_size: int) -> bool:
    """Returns whether a region ends a whole cluster or more behind the file's end.

    QEMU's rule: a file may end inside its last cluster.
    """
    return offset + size - file_size >= header.cluster_size


def table_messages(file: BlockFile, header: Header, damaged: Integers, file_size: int) -> Iterator[str]:
    """Yields a message for each fault in the L1 tables, and in the L2 tables at the file offsets `damaged` (sorted)."""
    for root, inside in followable(file, header):
        if root.problem is not None:
            yield root.problem
            continue
        if reaches_past_end(root.offset, root.entries * 8, header, file_size):
            yield past_end(root.offset, root.entries * 8)
        if inside < 0:
            yield f"ERROR the L1 table at offset {root.offset:#x} is not checked: the L1 tables overlap"
            continue
        for entries in entries_in_parts(file, header, root, inside, file_size):
            for row in np.flatnonzero((entries.flaws != 0) | np.isin(entries.offset, damaged)).tolist():
                yield from _entry_messages(entries, row, header)
                offset = int(entries.offset[row])
                if _is_among(offset, damaged):
                    yield from _l2_messages(file, header, offset, file_size)


def _is_among(offset: int, damaged: Integers) -> bool:
    place = int(np.searchsorted(damaged, offset))
    return place < len(damaged) and int(damaged[place]) == offset


def _entry_messages(entries: L1Entries, row: int, header: Header) -> Iterator[str]:
    offset = int(entries.offset[row])
    if entries.reserved[row]:
        yield f"ERROR found L1 entry with reserved bits set: {int(entries.word[row]):x}"
    if entries.past_end[row]:
        yield past_end(offset, header.cluster_size)
    if entries.misaligned[row]:
        yield f"ERROR l2_offset={offset:x}: Table is not cluster aligned; L1 entry corrupted"


def _l2_messages(file: BlockFile, header: Header, table: int, file_size: int) -> Iterator[str]:
    raw = read_clusters(file, np.array([table]), header.cluster_size)
    runs = find_runs(raw, header, joined=False)
    facts = classify(runs, header, file_size)
    data = contains_data(runs, header)
    for row in np.flatnonzero((facts.flaws != 0) | (facts.past_end != 0)).tolist():
        word, offset = int(runs.word[row]), int(facts.offset[row])
        if facts.reserved[row]:
            yield f"ERROR found l2 entry with reserved bits set: {word:x}"
        if facts.copied_compressed[row]:
            yield f"ERROR: coffset={offset:#x}: copied flag must never be set for compressed clusters"
        if facts.mapped_compressed[row]:
            yield (
                f"ERROR compressed cluster {int(runs.place[row])} with non-zero subcluster allocation bitmap, "
                f"entry={word & _UNCOPIED:#x}"
            )
        if facts.contradictory[row]:
            yield f"ERROR offset={offset:x}: Allocated cluster has corrupted subcluster allocation bitmap"
        if facts.misaligned[row]:
            what = "Data" if data[row] else "Preallocated"
            yield f"ERROR offset={offset:x}: {what} cluster is not properly aligned; L2 entry corrupted."
        if facts.past_end[row]:
            yield past_end(offset, int(facts.size[row]))
        if facts.homeless[row]:
            yield "ERROR: Unallocated cluster has non-zero subcluster allocation map"


def copied_messages(
    file: BlockFile,
    header: Header,
    damaged: Integers,
    wrong_l1: Callable[[L1Entries], Integers],
    wrong_l2: Callable[[Runs, Facts], Integers],
    refcount: Callable[[int], int | None],
) -> Iterator[str]:
    """Yields a message for each wrong copied flag of the active L1 table, and of the L2 tables at `damaged` (sorted).

    `wrong_l1` and `wrong_l2` return the number of wrong entries for each entry or run; `refcount` returns a cluster's stored
    count.
    """
    root = Root(header.l1_table_offset, header.l1_size, True)
    for entries in entries_in_parts(file, header, root, header.l1_size, file.size()):
        wrong = wrong_l1(entries) != 0
        for row in np.flatnonzero(wrong | np.isin(entries.offset, damaged)).tolist():
            offset = int(entries.offset[row])
            if wrong[row]:
                yield (
                    f"ERROR OFLAG_COPIED L2 cluster: l1_index={int(entries.place[row])} l1_entry={int(entries.word[row]):x} "
                    f"refcount={refcount(offset // header.cluster_size)}"
                )
            if offset and _is_among(offset, damaged):
                yield from _flag_messages(file, header, offset, wrong_l2, refcount)


def _flag_messages(
    file: BlockFile,
    header: Header,
    table: int,
    wrong: Callable[[Runs, Facts], Integers],
    refcount: Callable[[int], int | None],
) -> Iterator[str]:
    runs = find_runs(read_clusters(file, np.array([table]), header.cluster_size), header, joined=False)
    facts = classify(runs, header, file.size())
    for entry in np.flatnonzero(wrong(runs, facts)).tolist():
        cluster = int(facts.offset[entry]) // header.cluster_size
        yield f"ERROR OFLAG_COPIED data cluster: l2_entry={int(runs.word[entry]):x} refcount={refcount(cluster)}"
