"""XFS's inodes: all that the inode trees list, in arrays, and where their content and attributes lie.

Source: fs/xfs/libxfs/xfs_format.h (struct xfs_dinode), xfs_inode_buf.c.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cowherd.guest.xfs.blocks import INODE, wrong
from cowherd.guest.xfs.forks import BTREE, DEVICE, EXTENTS, LOCAL, Forks, Mapped, joined, read_forks
from cowherd.guest.xfs.groups import CHUNK, Chunks
from cowherd.guest.xfs.layout import LARGE_COUNTS, Layout, Numbers, Rows, number

REALTIME, REFLINKED, LARGE = 0x1, 0x2, 0x10
_BATCH = 256
_CORE, _CORE5 = 100, 176
_COLUMNS = np.dtype(
    [
        ("number", np.int64), ("mode", np.int64), ("format", np.int64), ("size", np.int64), ("links", np.int64),
        ("blocks", np.int64), ("attribute_format", np.int64), ("flags", np.int64),
        ("flags2", np.int64),
    ]
)  # fmt: skip


@dataclass(eq=False)
class Inodes:
    """Inodes in use. `table` is an array with a row for each, `index` maps an inode to its row.

    `local` holds the content inside of inodes (short directories and links, numbers of devices), `local_attributes` attributes
    inside of them. `problems` says why an inode can't be read, `complaints` which of its parts contradict each other. `stray` are
    inodes that a directory leads to, although the inode trees call them free or don't list them. Those in `not_in_use` are free,
    although the trees call them used.
    """

    layout: Layout
    table: NDArray[np.void]
    index: dict[int, int]
    content: Mapped
    attributes: Mapped
    local: dict[int, bytes]
    local_attributes: dict[int, bytes]
    problems: dict[int, str]
    complaints: dict[int, str]
    stray: list[int]
    not_in_use: list[int]

    def kind(self, inode: int) -> int:
        """Returns the bits of an inode's mode that say what it is (a file, a directory, ...)."""
        return stat.S_IFMT(int(self.table["mode"][self.index[inode]]))

    def find_strays(self, wanted: Numbers) -> None:
        """Adds those of the `wanted` inodes that no tree lists as in use, but that are in use by what they say themselves."""
        unknown = np.array(sorted({inode for inode in wanted.tolist() if inode not in self.index}), np.int64)
        places = self.layout.inode_places(unknown)
        unknown, places = unknown[places >= 0], places[places >= 0]
        if not len(unknown):
            return
        data = b"".join(self.layout.volume.read(place, self.layout.inode_bytes) for place in places.tolist())
        rows = np.frombuffer(data, np.uint8).reshape(len(unknown), self.layout.inode_bytes)
        used = (rows[:, :2] == (0x49, 0x4E)).all(axis=1) & (number(rows, 2, 2) != 0)
        used &= ~wrong(self.layout, INODE, rows, owners=unknown)
        if used.any():
            self._add(_read_rows(self.layout, rows[used], unknown[used]))
            self.stray += unknown[used].tolist()

    def _add(self, more: Inodes) -> None:
        self.index |= {inode: row + len(self.table) for inode, row in more.index.items()}
        self.table = np.concatenate((self.table, more.table))
        self.content, self.attributes = joined([self.content, more.content]), joined([self.attributes, more.attributes])
        for name in ("local", "local_attributes", "problems", "complaints"):
            getattr(self, name).update(getattr(more, name))
        self.not_in_use += more.not_in_use


def read_inodes(layout: Layout, chunks: Chunks) -> Inodes:
    """Reads all inodes that their records call used. Leaves out records that overlap or lie nowhere, with a complaint."""
    first = chunks.first
    good = first % min(CHUNK, layout.per_block) == 0
    good[1:] &= first[1:] >= first[:-1] + CHUNK
    places = layout.inode_places(first[:, None] + np.arange(CHUNK))
    there = chunks.there == 1
    good &= (layout.inode_places(first) >= 0) & ~((places < 0) & there).any(axis=1)
    if not good.all():
        layout.complaints.say("chunks", "records of inodes overlap or lie past the end")
    parts, free_in_use = [], []
    wanted = np.flatnonzero(good)
    for start in range(0, len(wanted), _BATCH):
        batch = wanted[start : start + _BATCH]
        numbers = (first[batch][:, None] + np.arange(CHUNK))[there[batch]]
        rows = _rows(layout, places[batch][there[batch]])
        used = chunks.free[batch][there[batch]] == 0
        parts.append(_read_rows(layout, rows[used], numbers[used]))
        free_in_use += numbers[~used & (number(rows, 2, 2) != 0)].tolist()
    found = _merged(layout, parts)
    for inode in free_in_use:
        layout.complaints.say("free inode", f"inode {inode} is in use but marked as free")
    return found


def _rows(layout: Layout, places: Numbers) -> Rows:
    """Reads the inodes at these bytes of the volume, each block once."""
    blocks = np.unique(places // layout.block)
    rows = layout.rows(blocks).reshape(-1, layout.inode_bytes)
    index = np.searchsorted(blocks, places // layout.block) * layout.per_block + places % layout.block // layout.inode_bytes
    found: Rows = rows[index]
    return found


def _merged(layout: Layout, parts: list[Inodes]) -> Inodes:
    table = np.concatenate([np.empty(0, _COLUMNS), *(part.table for part in parts)])
    index = dict(zip(table["number"].tolist(), range(len(table)), strict=True))
    found = Inodes(layout, table, index, joined([part.content for part in parts]), joined([part.attributes for part in parts]),
                   {}, {}, {}, {}, [], [])  # fmt: skip
    for part in parts:
        for name in ("local", "local_attributes", "problems", "complaints"):
            getattr(found, name).update(getattr(part, name))
        found.not_in_use += part.not_in_use
    return found


def _read_rows(layout: Layout, rows: Rows, numbers: Numbers) -> Inodes:
    bad = (rows[:, :2] != (0x49, 0x4E)).any(axis=1) | wrong(layout, INODE, rows, owners=numbers)
    version = rows[:, 4].astype(np.int64)
    bad |= (version != 3) if layout.crcs else (version < 1) | (version > 2)
    unused = ~bad & (number(rows, 2, 2) == 0)
    not_in_use = numbers[unused].tolist()
    rows, numbers, bad = rows[~unused], numbers[~unused], bad[~unused]
    problems = dict.fromkeys(numbers[bad].tolist(), "its inode is damaged")
    table = _columns(layout, rows, numbers)
    content, attributes = _forks(layout, rows, table)
    outside = ~bad & (attributes.at > layout.inode_bytes)
    outside |= ~bad & (table["format"] == LOCAL) & (table["size"] > content.room)
    problems |= dict.fromkeys(numbers[outside].tolist(), "its inode is damaged")
    good = ~bad & ~outside
    index = dict(zip(numbers.tolist(), range(len(numbers)), strict=True))
    found = Inodes(layout, table, index, *_mapped(layout, content, attributes, table, good, problems), [], not_in_use)
    _judge(found)
    return found


def _forks(layout: Layout, rows: Rows, table: NDArray[np.void]) -> tuple[Forks, Forks]:
    """Returns where the content and the attributes of inodes lie in them."""
    # di_forkoff counts 8 bytes from the end of the core to the attributes; 0 means that there are none, and all is for content.
    core = _CORE5 if layout.crcs else _CORE
    fork, room = rows[:, 82].astype(np.int64) * 8, layout.inode_bytes - core
    counts, attribute_counts = _counts(layout, rows, table)
    at, numbers = np.full(len(rows), core), table["number"]
    content = Forks(rows, numbers, at, np.where(fork > 0, fork, room), table["format"], counts)
    return content, Forks(rows, numbers, at + fork, room - fork, table["attribute_format"], attribute_counts)


def _mapped(
    layout: Layout, content: Forks, attributes: Forks, table: NDArray[np.void], good: NDArray[np.bool_], problems: dict[int, str]
) -> tuple[Mapped, Mapped, dict[int, bytes], dict[int, bytes], dict[int, str], dict[int, str]]:
    """Reads the forks of the `good` inodes: runs of both, content and attributes inside of inodes, problems, complaints."""
    runs, faults = read_forks(layout, content.chosen(good & (table["flags"] & REALTIME == 0)))
    attributed = attributes.chosen(good & (attributes.at > content.at))
    attribute_runs, attribute_faults = read_forks(layout, attributed)
    local_attributes = {
        inode: row[at:].tobytes()
        for row, inode, at, kind in zip(
            attributed.rows, attributed.numbers.tolist(), attributed.at.tolist(), attributed.kinds.tolist(), strict=True
        )
        if kind == LOCAL
    }
    complaints = {inode: f"its attributes: {fault}" for inode, fault in attribute_faults.items()}
    local = _local(content, table, good)
    return runs, attribute_runs, local, local_attributes, faults | problems, complaints


def _columns(layout: Layout, rows: Rows, numbers: Numbers) -> NDArray[np.void]:
    table = np.zeros(len(rows), _COLUMNS)
    table["number"] = numbers
    for name, at, width in (
        ("mode", 2, 2), ("format", 5, 1), ("links", 16, 4), ("size", 56, 8), ("blocks", 64, 8), ("attribute_format", 83, 1),
        ("flags", 90, 2),
    ):  # fmt: skip
        table[name] = number(rows, at, width)
    if layout.crcs:
        table["flags2"] = number(rows, 120, 8)
    else:
        old = rows[:, 4] == 1
        table["links"][old] = number(rows, 6, 2)[old]
    return table


def _counts(layout: Layout, rows: Rows, table: NDArray[np.void]) -> tuple[Numbers, Numbers]:
    """Returns the numbers of runs that the content and the attributes of each inode have."""
    # With large counts (nrext64), di_big_nextents takes over padding, and the attributes' count moves to di_nextents.
    large = (table["flags2"] & LARGE != 0) & bool(layout.incompat & LARGE_COUNTS)
    counts = np.where(large, number(rows, 24, 8), number(rows, 76, 4))
    attributes = np.where(large, number(rows, 76, 4), number(rows, 80, 2))
    # 2^48 is more than a fork may have; a count beyond 63 bits reads as negative and must not pass for small.
    return np.where(counts < 0, 1 << 48, np.minimum(counts, 1 << 48)), attributes


def _local(forks: Forks, table: NDArray[np.void], good: NDArray[np.bool_]) -> dict[int, bytes]:
    """Returns the content inside of inodes: directories, targets of links, numbers of devices."""
    found = {}
    kinds = forks.kinds
    for row in np.flatnonzero(good & ((kinds == LOCAL) | (kinds == DEVICE))).tolist():
        size = 4 if kinds[row] == DEVICE else max(int(table["size"][row]), 0)
        start = int(forks.at[row])
        found[int(forks.numbers[row])] = forks.rows[row, start : start + size].tobytes()
    return found


def _judge(found: Inodes) -> None:
    """Compares the parts of each inode with each other, and adds problems and complaints."""
    table = found.table
    kinds, formats = table["mode"] & 0o170000, table["format"]
    regular, directory, link = kinds == stat.S_IFREG, kinds == stat.S_IFDIR, kinds == stat.S_IFLNK
    mapped = (formats == EXTENTS) | (formats == BTREE)
    sensible = np.where(regular, mapped, np.where(directory | link, mapped | (formats == LOCAL), formats == DEVICE))
    sensible &= table["size"] >= 0
    known = np.isin(kinds, (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK))
    for inode in table["number"][~(sensible & known)].tolist():
        found.problems.setdefault(inode, "its inode makes no sense")
    real = table["flags"] & REALTIME != 0
    for inode in table["number"][real].tolist():
        found.problems.setdefault(inode, "its content lies on another device")
    held = np.zeros(len(table), np.int64)
    for part in (found.content, found.attributes):
        rows = np.searchsorted(table["number"], part.inode)
        np.add.at(held, rows, part.count)
        np.add.at(held, np.searchsorted(table["number"], part.own_of), 1)
    for row in np.flatnonzero(~real & (held != table["blocks"])).tolist():
        inode = int(table["number"][row])
        if inode not in found.problems:
            found.complaints.setdefault(inode, "the number of its blocks is not what its map holds")
