"""XFS's allocation groups: their four header sectors, and the trees of free space, inodes, owners and references.

Source: fs/xfs/libxfs/xfs_format.h, xfs_alloc.c, xfs_ialloc.c.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cowherd import extents
from cowherd.extents import Ranges
from cowherd.guest.xfs.blocks import FREE_LIST, FREE_SPACE_HEAD, INODE_HEAD, SUPERBLOCK, wrong
from cowherd.guest.xfs.layout import (
    FINOBT,
    GEOMETRY,
    REFLINK,
    RMAPBT,
    SPARSE_INODES,
    Layout,
    Numbers,
    Rows,
    fields_of,
    number,
)
from cowherd.guest.xfs.trees import (
    FREE_BY_PLACE,
    FREE_BY_SIZE,
    FREE_INODES,
    INODES,
    OWNERS,
    REFERENCES,
    Roots,
    Shape,
    Walked,
    walk,
)

CHUNK = 64
"""Inodes of one record."""
# Offsets in struct xfs_agf and xfs_agi, the headers of free space and of inodes, by names of our own.
_AGF = {"length": 12, "first": 40, "last": 44, "listed": 48, "free": 52, "longest": 56, "tree_blocks": 60,
        "owner_blocks": 80, "reference_blocks": 84}  # fmt: skip
_AGI = {"length": 12, "inodes": 16, "free": 28, "tree_blocks": 336, "free_tree_blocks": 340}
_TREES = (  # shape, header (free space or inodes), offsets of root and level in it, feature
    (FREE_BY_PLACE, 1, 16, 28, 0),
    (FREE_BY_SIZE, 1, 20, 32, 0),
    (OWNERS, 1, 24, 36, RMAPBT),
    (REFERENCES, 1, 88, 92, REFLINK),
    (INODES, 2, 20, 24, 0),
    (FREE_INODES, 2, 328, 332, FINOBT),
)


@dataclass(eq=False)
class Chunks:
    """Records of 64 inodes: the group, the first inode, which ones exist, which ones are free, and the counts in the record."""

    groups: Numbers
    first: Numbers
    there: Rows
    free: Rows
    said: Numbers
    said_free: Numbers


@dataclass(eq=False)
class Groups:
    """All groups, in arrays with an entry for each. `trees` has the walked trees by kind, `listed` the blocks kept for trees.

    `sound` is False if the headers of any group are damaged, so that its free space is not known.
    """

    layout: Layout
    free_heads: dict[str, Numbers]
    inode_heads: dict[str, Numbers]
    unlinked: Rows
    trees: dict[str, Walked] = field(default_factory=dict)
    listed: Ranges = field(default_factory=lambda: extents.ranges([]))
    sound: bool = True

    @property
    def free(self) -> Ranges:
        """The blocks of free space; none if that is not known for certain."""
        walked = self.trees[FREE_BY_PLACE.name]
        return extents.normalised(self.spans(walked)) if not walked.faults and self.sound else extents.ranges([])

    @property
    def copies_on_write(self) -> Ranges:
        """The blocks that were reserved to receive writes to shared blocks. After a crash they belong to nothing."""
        walked = self.trees.get(REFERENCES.name)
        if walked is None:
            return extents.ranges([])
        # The upper bit of a reference record's block marks such a reservation (XFS_REFC_COWFLAG).
        return extents.normalised(self.spans(walked)[number(walked.records, 0, 4) >= 1 << 31])

    def spans(self, walked: Walked) -> Ranges:
        """Returns the (start, end) blocks of records that begin with a block of a group and a length, shortened to the group."""
        groups, start = walked.owners, number(walked.records, 0, 4) & 0x7FFFFFFF
        low = np.minimum(start, self.layout.group_blocks)
        high = np.minimum(start + number(walked.records, 4, 4), self.layout.group_blocks)
        pairs: Ranges = np.minimum(
            np.column_stack((low, high)) + (groups * self.layout.group_blocks)[:, None], self.layout.blocks
        )
        return pairs

    def chunks(self, shape: Shape = INODES) -> Chunks:
        """Returns the inode records of a tree."""
        walked = self.trees[shape.name]
        # A record is first inode, free count, mask of free ones. The mask is big-endian, and its lowest bit is the first inode.
        first, bits = number(walked.records, 0, 4), np.unpackbits(walked.records[:, 8:16], axis=1)[:, ::-1]
        there = np.ones((len(first), CHUNK), np.uint8)
        said, free = np.full(len(first), CHUNK), number(walked.records, 4, 4)
        if self.layout.incompat & SPARSE_INODES:
            # Instead of the 32-bit count: a mask of holes, each bit for four inodes, and two counts of a byte.
            holes = np.unpackbits(walked.records[:, 4:6], axis=1)[:, ::-1]
            there = 1 - np.repeat(holes, 4, axis=1)
            said, free = number(walked.records, 6, 1), number(walked.records, 7, 1)
        shift = self.layout.group_log + self.layout.per_block_log
        return Chunks(walked.owners, (walked.owners << shift) + first, there, bits, said, free)


def read_groups(layout: Layout) -> Groups:
    """Reads the headers and trees of all groups, and adds a complaint for each that is wrong."""
    starts = np.arange(layout.groups, dtype=np.int64) * layout.group_blocks
    heads = b"".join(layout.volume.read(start * layout.block, 4 * layout.sector) for start in starts.tolist())
    sectors = np.frombuffer(heads, np.uint8).reshape(layout.groups, 4, layout.sector)
    free_head, inode_head = sectors[:, 1], sectors[:, 2]
    found = Groups(
        layout,
        {name: number(free_head, at, 4) for name, at in _AGF.items()},
        {name: number(inode_head, at, 4) for name, at in _AGI.items()},
        np.ascontiguousarray(inode_head[:, 40:296]),
    )
    _judge_headers(layout, sectors, starts, found)
    for shape, head, root, level, feature in _TREES:
        if not feature or layout.ro_compat & feature:
            rows = sectors[:, head]
            roots = number(rows, root, 4)
            blocks = np.where(roots < layout.group_blocks, starts + roots, -1)
            blocks[blocks >= layout.blocks] = -1
            order = np.arange(layout.groups, dtype=np.int64)
            found.trees[shape.name] = walk(layout, shape, Roots(blocks, number(rows, level, 4) - 1, order))
    for walked in found.trees.values():
        for group, fault in walked.faults.items():
            layout.complaints.say("tree", f"group {group}: {fault}")
    found.listed = _free_list(layout, sectors[:, 3], found)
    return found


def _judge_headers(layout: Layout, sectors: Rows, starts: Numbers, found: Groups) -> None:
    order = np.arange(layout.groups)
    lengths = np.minimum(layout.group_blocks, layout.blocks - starts)
    kinds = (
        ("superblock", b"XFSB", SUPERBLOCK, 0),
        ("header of free space", b"XAGF", FREE_SPACE_HEAD, 1),
        ("header of inodes", b"XAGI", INODE_HEAD, 2),
        ("list of free blocks", b"XAFL", FREE_LIST, 3),
    )
    for name, magic, header, at in kinds:
        rows = sectors[:, at]
        bad = wrong(layout, header, rows)
        if layout.crcs or at < 3:
            bad |= (rows[:, :4] != np.frombuffer(magic, np.uint8)).any(axis=1)
        if at in (1, 2):
            bad |= (number(rows, 8, 4) != order) | (number(rows, 12, 4) != lengths)
        for group in np.flatnonzero(bad).tolist():
            layout.complaints.say("head", f"group {group}: the {name} is not what it must be")
        found.sound &= at == 0 or not bad.any()
    for group in range(1, layout.groups):
        copy = fields_of(sectors[group, 0, :512].tobytes())
        if any(copy[name] != layout.values[name] for name in GEOMETRY):
            layout.complaints.say("copy", f"group {group}: its copy of the superblock tells of another file system")


def _free_list(layout: Layout, rows: Rows, found: Groups) -> Ranges:
    """Returns the blocks that the groups keep ready for their trees, and adds a complaint for each list that makes no sense."""
    # The list is a ring of block numbers, of which agf_flcount are in use from agf_flfirst to agf_fllast.
    at = 36 if layout.crcs else 0
    slots = np.ascontiguousarray(rows[:, at : at + (layout.sector - at) // 4 * 4]).view(">u4").astype(np.int64)
    room, heads = slots.shape[1], found.free_heads
    used = (np.arange(room) - heads["first"][:, None]) % room < heads["listed"][:, None]
    bad = (heads["first"] >= room) | (heads["last"] >= room)
    bad |= (heads["listed"] > 0) & ((heads["first"] + heads["listed"] - 1) % room != heads["last"])
    bad |= (used & (slots >= layout.group_blocks)).any(axis=1)
    for group in np.flatnonzero(bad).tolist():
        layout.complaints.say("list", f"group {group}: the list of free blocks makes no sense")
    used[bad] = False
    owner = np.repeat(np.arange(layout.groups), used.sum(axis=1))
    blocks = owner * layout.group_blocks + slots[used]
    return extents.normalised(np.column_stack((blocks, blocks + 1)))


def areas_of(groups: Groups) -> dict[str, Ranges]:
    """Returns the blocks of the structures that all groups have, by name; the superblock comes first."""
    layout = groups.layout
    starts = np.arange(layout.groups, dtype=np.int64) * layout.group_blocks
    heads = -(-4 * layout.sector // layout.block)
    found = {"superblock": extents.ranges([(0, 1)]), "group headers": np.column_stack((starts, starts + heads))}
    names = {
        "free space trees": (FREE_BY_PLACE, FREE_BY_SIZE),
        "inode trees": (INODES, FREE_INODES),
        "owner trees": (OWNERS,),
        "reference trees": (REFERENCES,),
    }
    for name, shapes in names.items():
        blocks = np.concatenate(
            [groups.trees[shape.name].blocks for shape in shapes if shape.name in groups.trees] or [starts[:0]]
        )
        found[name] = np.column_stack((blocks, blocks + 1))
    found["inodes"] = chunk_blocks(groups)
    return {name: pairs for name, pairs in found.items() if len(pairs)}


def chunk_blocks(groups: Groups) -> Ranges:
    """Returns the blocks of all inodes that exist, as (start, end) pairs in order."""
    layout, chunks = groups.layout, groups.chunks()
    held = layout.inode_places(chunks.first[:, None] + np.arange(CHUNK))
    there = (chunks.there == 1) & (held >= 0)
    blocks = np.unique(held[there] // layout.block)
    return extents.normalised(np.column_stack((blocks, blocks + 1)))


def tree_blocks(layout: Layout, walked: Walked) -> Numbers:
    """Returns the number of blocks in each group's tree."""
    return np.bincount(walked.block_owners, minlength=layout.groups)
