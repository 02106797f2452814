"""XFS's B+trees, many at once: all trees of one kind are walked together, level by level.

Source: fs/xfs/libxfs/xfs_btree.c and xfs_format.h.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cowherd.guest.xfs.blocks import LONG_TREE, SHORT_TREE, wrong
from cowherd.guest.xfs.layout import Layout, Numbers, Rows, number

_DEEPEST = 9


@dataclass(frozen=True)
class Shape:
    """One kind of tree: its magic numbers in versions 4 and 5, and the bytes of a record, of a key and of a pointer."""

    name: str
    magic: bytes
    magic5: bytes
    record: int
    key: int
    pointer: int = 4

    def header(self, layout: Layout) -> int:
        """Returns the bytes of a block's header: trees inside of a group have short pointers, those of files long ones."""
        if self.pointer == 4:
            return 56 if layout.crcs else 16
        return 72 if layout.crcs else 24


FREE_BY_PLACE = Shape("free space", b"ABTB", b"AB3B", 8, 8)
FREE_BY_SIZE = Shape("free space by size", b"ABTC", b"AB3C", 8, 8)
INODES = Shape("inodes", b"IABT", b"IAB3", 16, 4)
FREE_INODES = Shape("free inodes", b"FIBT", b"FIB3", 16, 4)
OWNERS = Shape("owners", b"RMB3", b"RMB3", 24, 40)
REFERENCES = Shape("references", b"R3FC", b"R3FC", 12, 4)
FILE_MAP = Shape("file map", b"BMAP", b"BMA3", 16, 8, 8)


@dataclass(frozen=True, eq=False)
class Roots:
    """Where trees begin: blocks of the volume (-1: nowhere), the levels of these, and the owners of the trees."""

    blocks: Numbers
    levels: Numbers
    owners: Numbers


@dataclass(eq=False)
class Walked:
    """The content of trees: `records` with the `owners` of their trees, in the order of each tree, and the blocks of the trees.

    `faults` maps an owner to the reason why its tree is not whole.
    """

    records: Rows
    owners: Numbers
    blocks: Numbers
    block_owners: Numbers
    faults: dict[int, str] = field(default_factory=dict)


class _Walk:
    def __init__(self, layout: Layout, shape: Shape):
        self.layout, self.shape, self.header = layout, shape, shape.header(layout)
        self.faults: dict[int, str] = {}
        self.blocks: list[Numbers] = []
        self.block_owners: list[Numbers] = []

    def fault(self, owners: Numbers, text: str) -> None:
        for owner in np.unique(owners).tolist():
            self.faults.setdefault(owner, f"its tree of {self.shape.name} {text}")

    def level(self, blocks: Numbers, owners: Numbers, level: int) -> tuple[Rows, Numbers, Numbers]:
        """Reads all blocks of one level; returns the sound ones as rows, their owners, and the number of records in each."""
        # A block that two pointers lead to is read for the first only, which also ends every circle.
        _, first = np.unique(blocks, return_index=True)
        sound = np.zeros(len(blocks), np.bool_)
        sound[first] = True
        sound &= blocks >= 0
        self.fault(owners[~sound], "leads to blocks that can't be part of it")
        blocks, owners = blocks[sound], owners[sound]
        rows = self.layout.rows(blocks)
        self.blocks.append(blocks)
        self.block_owners.append(owners)
        magic = np.frombuffer(self.shape.magic5 if self.layout.crcs else self.shape.magic, np.uint8)
        counts = number(rows, 6, 2)
        bad = (rows[:, :4] != magic).any(axis=1) | (number(rows, 4, 2) != level) | (counts > self._most(level))
        bad |= wrong(self.layout, SHORT_TREE if self.shape.pointer == 4 else LONG_TREE, rows, blocks, owners)
        self.fault(owners[bad], "has a block that is none of it")
        self._siblings(rows, blocks, owners)
        return rows[~bad], owners[~bad], counts[~bad]

    def _most(self, level: int) -> int:
        room = self.layout.block - self.header
        return room // (self.shape.key + self.shape.pointer) if level else room // self.shape.record

    def _siblings(self, rows: Rows, blocks: Numbers, owners: Numbers) -> None:
        """Compares the neighbours that the blocks of a level name with the order in which the level above lists them."""
        width, groups = self.shape.pointer, self.shape.pointer == 4
        left, right = number(rows, 8, width), number(rows, 8 + width, width)
        said = np.concatenate((left, right))
        nowhere = said == (0xFFFFFFFF if groups else -1)
        places = np.tile(owners, 2) * self.layout.group_blocks + said if groups else self.layout.to_blocks(said)
        places[nowhere] = -1
        same = np.concatenate(([False], owners[1:] == owners[:-1], [False]))[: len(owners) + 1]
        before = np.where(same[:-1], np.concatenate(([-1], blocks[:-1])), -1)
        after = np.where(same[1:], np.concatenate((blocks[1:], [-1])), -1)
        self.fault(owners[(places[: len(blocks)] != before) | (places[len(blocks) :] != after)], "has blocks out of order")

    def children(self, rows: Rows, owners: Numbers, counts: Numbers) -> tuple[Numbers, Numbers]:
        # The pointers follow the room for as many keys as fit, not the keys in use.
        most = self._most(1)
        at = self.header + most * self.shape.key
        width = self.shape.pointer
        pointers = np.ascontiguousarray(rows[:, at : at + most * width]).view(f">u{width}").astype(np.int64)
        held = np.arange(most) < counts[:, None]
        found, of = pointers[held], np.repeat(owners, counts)
        if width == 8:
            return self.layout.to_blocks(found), of
        blocks = of * self.layout.group_blocks + found
        return np.where((found < self.layout.group_blocks) & (blocks < self.layout.blocks), blocks, -1), of

    def records(self, rows: Rows, owners: Numbers, counts: Numbers) -> tuple[Rows, Numbers]:
        most, width = self._most(0), self.shape.record
        held = np.arange(most) < counts[:, None]
        inside = rows[:, self.header : self.header + most * width].reshape(len(rows), most, width)
        return inside[held], np.repeat(owners, counts)


def walk(layout: Layout, shape: Shape, roots: Roots) -> Walked:
    """Reads the trees that begin at `roots`. Owners are numbers of groups, or of inodes for the maps of files."""
    found = _Walk(layout, shape)
    too_deep = (roots.levels >= _DEEPEST) | (roots.levels < 0)
    found.fault(roots.owners[too_deep], "is too deep")
    blocks, owners = np.empty(0, np.int64), np.empty(0, np.int64)
    records, of = np.empty((0, shape.record), np.uint8), owners
    for level in range(_DEEPEST - 1, -1, -1):
        begin: NDArray[np.bool_] = roots.levels == level
        blocks, owners = np.concatenate((roots.blocks[begin], blocks)), np.concatenate((roots.owners[begin], owners))
        if not len(blocks):
            continue
        rows, owners, counts = found.level(blocks, owners, level)
        if level:
            blocks, owners = found.children(rows, owners, counts)
        else:
            records, of = found.records(rows, owners, counts)
    nothing = np.empty(0, np.int64)
    return Walked(
        records,
        of,
        np.concatenate([nothing, *found.blocks]),
        np.concatenate([nothing, *found.block_owners]),
        found.faults,
    )
