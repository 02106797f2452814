"""The forks of XFS's inodes (content and attributes) as runs of blocks, for many inodes at once.

Source: fs/xfs/libxfs/xfs_bmap_btree.h, xfs_inode_fork.c.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cowherd.guest.xfs.layout import Layout, Numbers, Rows
from cowherd.guest.xfs.trees import FILE_MAP, Roots, walk

DEVICE, LOCAL, EXTENTS, BTREE = 0, 1, 2, 3  # xfs_dinode_fmt: what a fork holds in the inode itself


@dataclass(eq=False)
class Mapped:
    """Runs of many inodes' forks: arrays of the inode's number, the block in the fork, the block of the volume and the count.

    `written` is False for runs that read as zeros. `own` are the blocks of the maps themselves, `own_of` the inodes of these.
    """

    inode: Numbers
    first: Numbers
    block: Numbers
    count: Numbers
    written: NDArray[np.bool_]
    own: Numbers
    own_of: Numbers

    def at(self, inode: int) -> Mapped:
        """Returns the runs of one inode; the arrays must be `ordered`."""
        low, high = np.searchsorted(self.inode, (inode, inode + 1))
        return self._chosen(slice(int(low), int(high)))

    def of(self, inodes: Numbers) -> Mapped:
        """Returns the runs of some inodes, in the order of `inodes`; the arrays must be `ordered`."""
        low, high = np.searchsorted(self.inode, inodes), np.searchsorted(self.inode, inodes, side="right")
        start = np.repeat(low - np.cumsum(high - low) + (high - low), high - low)
        return self._chosen(start + np.arange(len(start)))

    def ordered(self) -> Mapped:
        """Returns the same runs, sorted by the number of their inode."""
        return self._chosen(np.argsort(self.inode, kind="stable"))

    def without(self, inodes: Numbers) -> Mapped:
        """Returns all but the runs and maps of some inodes."""
        kept, kept_own = ~np.isin(self.inode, inodes), ~np.isin(self.own_of, inodes)
        found = self._chosen(kept)
        found.own, found.own_of = self.own[kept_own], self.own_of[kept_own]
        return found

    def _chosen(self, chosen: slice | NDArray[np.bool_] | Numbers) -> Mapped:
        parts = (self.inode[chosen], self.first[chosen], self.block[chosen], self.count[chosen])
        return Mapped(*parts, self.written[chosen], self.own, self.own_of)

    @property
    def pairs(self) -> NDArray[np.int64]:
        """The (start, end) blocks of the volume."""
        return np.column_stack((self.block, self.block + self.count))


def nothing() -> Mapped:
    """Returns no runs at all."""
    empty = np.empty(0, np.int64)
    return Mapped(empty, empty, empty, empty, np.empty(0, np.bool_), empty, empty)


def joined(parts: list[Mapped]) -> Mapped:
    """Returns the runs of all parts, sorted by the number of their inode."""
    parts = [nothing(), *parts]
    names = ("inode", "first", "block", "count", "written", "own", "own_of")
    columns = [np.concatenate([getattr(part, name) for part in parts]) for name in names]
    return Mapped(*columns).ordered()


@dataclass(frozen=True, eq=False)
class Forks:
    """A fork of each of many inodes: each lies at byte `at` of its row, in `room` bytes, with its kind and its count of runs."""

    rows: Rows
    numbers: Numbers
    at: Numbers
    room: Numbers
    kinds: Numbers
    counts: Numbers

    def chosen(self, which: NDArray[np.bool_]) -> Forks:
        """Returns the forks of the inodes for which `which` is True."""
        numbers = (array[which] for array in (self.numbers, self.at, self.room, self.kinds, self.counts))
        return Forks(self.rows[which], *numbers)


def read_forks(layout: Layout, forks: Forks) -> tuple[Mapped, dict[int, str]]:
    """Returns the runs of forks, and for each inode whose fork makes no sense the reason; such an inode has no runs."""
    faults: dict[int, str] = {}
    numbers, counts = forks.numbers, forks.counts
    inline = (forks.kinds == EXTENTS) & (counts > 0)
    too_many = inline & (counts * 16 > forks.room)
    _fault(faults, numbers[too_many], "it counts more runs of blocks than fit")
    roots = forks.kinds == BTREE
    records, of = _inline_records(forks.chosen(inline & ~too_many))
    trees, tree_of, own, own_of = _tree_records(layout, forks.chosen(roots), faults)
    mapped = _decoded(layout, np.concatenate((records, trees)), np.concatenate((of, tree_of)))
    mapped.own, mapped.own_of = own, own_of
    mapped = mapped.ordered()
    _judge(mapped, faults)
    bad = np.array(list(faults), np.int64)
    held = dict(zip(*(array.tolist() for array in np.unique(mapped.inode, return_counts=True)), strict=True))
    for inode, said in zip(numbers[roots].tolist(), counts[roots].tolist(), strict=True):
        if held.get(inode, 0) != said:
            faults.setdefault(inode, f"it counts {said} runs of blocks, its map has {held.get(inode, 0)}")
    return mapped.without(bad), faults


def _fault(faults: dict[int, str], numbers: Numbers, text: str) -> None:
    for inode in np.unique(numbers).tolist():
        faults.setdefault(inode, text)


def _inline_records(forks: Forks) -> tuple[Rows, Numbers]:
    counts = forks.counts
    row = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = forks.at[row] + 16 * within
    records: Rows = forks.rows[row[:, None], start[:, None] + np.arange(16)]
    return records, forks.numbers[row]


def _tree_records(layout: Layout, forks: Forks, faults: dict[int, str]) -> tuple[Rows, Numbers, Numbers, Numbers]:
    """Walks the trees that begin in the inodes' forks: level and count, as many keys as fit, then pointers."""
    blocks, levels, owners = [], [], []
    columns = (forks.numbers.tolist(), forks.at.tolist(), forks.room.tolist())
    for row, inode, start, length in zip(forks.rows, *columns, strict=True):
        level, held = (int.from_bytes(row[start + low : start + low + 2].tobytes(), "big") for low in (0, 2))
        most = (length - 4) // 16
        if not 0 < held <= most or level < 1:
            faults[inode] = "the root of its map makes no sense"
            continue
        pointers = start + 4 + 8 * most
        found = np.frombuffer(row[pointers : pointers + 8 * held].tobytes(), ">u8").astype(np.int64)
        blocks.append(layout.to_blocks(found))
        levels.append(np.full(held, level - 1))
        owners.append(np.full(held, inode))
    empty = np.empty(0, np.int64)
    roots = Roots(*(np.concatenate([empty, *parts]) for parts in (blocks, levels, owners)))
    walked = walk(layout, FILE_MAP, roots)
    for inode, fault in walked.faults.items():
        faults.setdefault(inode, fault)
    return walked.records, walked.owners, walked.blocks, walked.block_owners


def _decoded(layout: Layout, records: Rows, of: Numbers) -> Mapped:
    """Splits records (xfs_bmbt_rec): a flag, 54 bits of block in the fork, 52 of block of the file system, 21 of count."""
    # The block of the file system begins with the last 9 bits of the upper word.
    high = np.ascontiguousarray(records[:, :8]).view(">u8")[:, 0].astype(np.uint64)
    low = np.ascontiguousarray(records[:, 8:]).view(">u8")[:, 0].astype(np.uint64)
    first = ((high & np.uint64((1 << 63) - 1)) >> np.uint64(9)).astype(np.int64)
    start = ((high & np.uint64(511)) << np.uint64(43) | low >> np.uint64(21)).astype(np.int64)
    count = (low & np.uint64((1 << 21) - 1)).astype(np.int64)
    blocks = layout.to_blocks(start)
    ends = layout.to_blocks(start + count - 1)
    blocks[(count == 0) | (ends != blocks + count - 1)] = -1  # no run crosses the end of a group
    empty = np.empty(0, np.int64)
    return Mapped(of, first, blocks, count, high >> np.uint64(63) == 0, empty, empty)


def _judge(mapped: Mapped, faults: dict[int, str]) -> None:
    _fault(faults, mapped.inode[mapped.block < 0], "its map refers to blocks past the end")
    follows = mapped.inode[1:] == mapped.inode[:-1]
    backwards = follows & (mapped.first[1:] < mapped.first[:-1] + mapped.count[:-1])
    _fault(faults, mapped.inode[1:][backwards], "its map is not in order")
