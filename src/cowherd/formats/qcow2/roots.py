"""The L1 tables of an image, the active one and the snapshots', as a checker reads them: with all their faults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.header import Header
from cowherd.formats.qcow2.runs import Integers, Mask, Words
from cowherd.formats.qcow2.snapshots import ENTRY, most_l1_entries, read_snapshots
from cowherd.formats.qcow2.tables import L1Table, read_l1
from cowherd.storage.blocks import BlockFile
from cowherd.text import printable

RESERVED = np.uint64(0x7F00_0000_0000_01FF)
_LEAST_EXTRA_BYTES = 16
"""The least size of the extra data of a version 3 snapshot: the size of the VM state and the virtual size."""
_ENTRIES_AT_ONCE = 1 << 18


class Root(NamedTuple):
    """The place of an L1 table. `problem` says why it can't be followed (None if it can)."""

    offset: int
    entries: int
    active: bool
    problem: str | None = None


class L1Entries(NamedTuple):
    """The entries of one L1 table that are not 0, with their faults; one element each."""

    place: Integers
    """The entry's index in the table."""
    word: Words
    offset: Integers
    """File offset of the L2 table."""
    reserved: Mask
    past_end: Mask
    misaligned: Mask
    """The L2 table does not begin a cluster."""

    @property
    def flaws(self) -> Integers:
        """The number of faults of each entry."""
        flaws: Integers = np.sum((self.reserved, self.past_end, self.misaligned), axis=0, dtype=np.int64)
        return flaws


def roots(file: BlockFile, header: Header) -> Iterator[Root]:
    """Yields the active L1 table, if there is one, then the snapshots' in the snapshot table's order.

    Raises `ImageFormatError` for a snapshot table that can't be read.
    """
    if header.l1_size:
        yield Root(header.l1_table_offset, header.l1_size, True)
    for snapshot in read_snapshots(file, header, cut=True):
        name = f"ERROR snapshot {printable(snapshot.id)} ({printable(snapshot.name)})"
        problem = None
        if snapshot.l1_offset % header.cluster_size:
            problem = f"{name} l1_offset={snapshot.l1_offset:#x}: L1 table is not cluster aligned; snapshot table entry corrupted"
        elif snapshot.l1_size * layout.L1_ENTRY_BYTES > layout.MAX_L1_BYTES:
            problem = f"{name} l1_size={snapshot.l1_size:#x}: L1 table is too large; snapshot table entry corrupted"
        if snapshot.l1_size:
            yield Root(snapshot.l1_offset, snapshot.l1_size, False, problem)


def followable(file: BlockFile, header: Header) -> Iterator[tuple[Root, int]]:
    """Yields the roots with the number of entries that lie in the file.

    Sound tables do not overlap. Once the entries add up to more than the file can hold, the remaining roots come with -1 entries
    and must not be followed: otherwise a small file, or a sparse one, could name the same table tens of thousands of times.
    """
    size = file.size()
    budget = most_l1_entries(file)
    for root in roots(file, header):
        inside = min(root.entries, max(0, -(-(size - root.offset) // layout.L1_ENTRY_BYTES)))
        if root.problem is None:
            budget -= inside
        yield root, inside if budget >= 0 else -1


def read_entries(file: BlockFile, header: Header, root: Root, entries: int, file_size: int) -> L1Entries:
    """Returns those of the first `entries` entries of `root` that are not 0."""
    return _entries(read_l1(file, root.offset, entries) if entries else np.empty(0, np.uint64), 0, header, file_size)


def entries_in_parts(file: BlockFile, header: Header, root: Root, entries: int, file_size: int) -> Iterator[L1Entries]:
    """Yields what `read_entries` returns, in parts of limited size, however large the table is."""
    for begin in range(0, entries, _ENTRIES_AT_ONCE):
        number = min(_ENTRIES_AT_ONCE, entries - begin)
        yield _entries(read_l1(file, root.offset + begin * layout.L1_ENTRY_BYTES, number), begin, header, file_size)


def _entries(l1: L1Table, first: int, header: Header, file_size: int) -> L1Entries:
    place = np.flatnonzero(l1)
    word = l1[place]
    offset = (word & np.uint64(layout.L1_OFFSET_MASK)).astype(np.int64)
    misaligned = (offset & (header.cluster_size - 1)) != 0
    return L1Entries(place + first, word, offset, (word & RESERVED) != 0, offset >= file_size, misaligned)


def snapshot_table_facts(file: BlockFile, header: Header) -> tuple[int, list[int]]:
    """Returns the bytes that the snapshot table occupies, and the indexes of entries without the fields that version 3 requires.

    Reads only the fixed part of each entry; `read_snapshots` refuses lengths that make no sense.
    """
    position = header.snapshots_offset
    incomplete: list[int] = []
    for index in range(header.nb_snapshots):
        position += -position % 8
        values = ENTRY.unpack(file.pread(position, ENTRY.size))
        position += ENTRY.size + values["extra_length"] + values["id_length"] + values["name_length"]
        if header.version >= 3 and values["extra_length"] < _LEAST_EXTRA_BYTES:
            incomplete.append(index)
    return position - header.snapshots_offset if header.nb_snapshots else 0, incomplete
