"""What a btrfs says is in use: the extent tree with its block groups, compared with the other trees.

Source: the kernel's include/uapi/linux/btrfs_tree.h (btrfs_extent_item, btrfs_block_group_item).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from cowherd import extents
from cowherd.extents import Ranges
from cowherd.guest.btrfs.items import BLOCK_GROUP_ITEM, EXTENT_ITEM, METADATA_ITEM
from cowherd.guest.btrfs.layout import Layout
from cowherd.guest.btrfs.nodes import Leaf
from cowherd.guest.chart import NO_RANGES
from cowherd.guest.source import Malformed

_EXTENT, _GROUP = struct.Struct("<QQQ"), struct.Struct("<QQQ")
_TREE_BLOCK = 2
_MOST_NAMED = 20


@dataclass
class Allocation:
    """Ranges of logical addresses in use. `groups` has the start, length and bytes in use of each block group."""

    layout: Layout
    data: Ranges = field(default_factory=lambda: NO_RANGES)
    blocks: Ranges = field(default_factory=lambda: NO_RANGES)
    groups: list[tuple[int, int, int]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def all(self) -> Ranges:
        """Everything in use."""
        return extents.union(self.data, self.blocks)


def read_allocation(layout: Layout, leaves: Iterator[Leaf], groups: Iterator[Leaf]) -> Allocation:
    """Reads the leaves of the extent tree, and of the block group tree if the file system has one; `groups` is empty if not."""
    found = Allocation(layout)
    data: list[tuple[int, int]] = []
    blocks: list[tuple[int, int]] = []
    end = 0
    for leaf in leaves:
        for start, kind, size, body in leaf.of_types(EXTENT_ITEM, METADATA_ITEM, BLOCK_GROUP_ITEM):
            if kind == BLOCK_GROUP_ITEM:
                found.groups.append((start, size, _used(body)))
                continue
            # The key of a "skinny" item has the block's level in place of its length, which is always that of a node.
            length = layout.node if kind == METADATA_ITEM else size
            is_block = kind == METADATA_ITEM or _is_tree_block(body)
            try:
                layout.chunk_at(start, length)
            except Malformed as error:
                found.problems.append(str(error))
                continue
            if start < end:
                found.problems.append(f"addresses {start} to {end} are in use twice")
            end = max(end, start + length)
            (blocks if is_block else data).append((start, start + length))
    for leaf in groups:
        found.groups += [(start, size, _used(body)) for start, _, size, body in leaf.of_types(BLOCK_GROUP_ITEM)]
    found.data, found.blocks = extents.ranges(data), extents.ranges(blocks)
    return found


def _is_tree_block(body: bytes) -> bool:
    return len(body) >= _EXTENT.size and bool(_EXTENT.unpack_from(body)[2] & _TREE_BLOCK)


def _used(body: bytes) -> int:
    return int(_GROUP.unpack_from(body)[0]) if len(body) >= _GROUP.size else -1


def contradictions(allocation: Allocation, reached: Ranges, read: Ranges, deleting: bool) -> Iterator[str]:
    """Yields where the allocation disagrees with `reached`, the blocks of trees that were walked, and with `read`, the addresses
    from which files are read.

    While a subvolume is being deleted (`deleting`), some of its blocks are in use although no tree reaches them.
    """
    yield from allocation.problems[:_MOST_NAMED]
    for start, end in extents.subtract(reached, allocation.blocks)[:_MOST_NAMED].tolist():
        yield f"blocks of trees at addresses {start} to {end} are in use but marked as free"
    for start, end in extents.subtract(read, allocation.data)[:_MOST_NAMED].tolist():
        yield f"content at addresses {start} to {end} is in use but marked as free"
    if not deleting:
        for start, end in extents.subtract(allocation.blocks, reached)[:_MOST_NAMED].tolist():
            yield f"addresses {start} to {end} are marked as blocks of trees but belong to none"
    yield from _miscounted(allocation)


def _miscounted(allocation: Allocation) -> Iterator[str]:
    for start, length, used in allocation.groups:
        here = np.array([[start, start + length]], np.int64) if start + length < 1 << 63 else NO_RANGES
        counted = extents.total(extents.intersect(allocation.all, here))
        if counted != used:
            yield f"the block group at address {start} counts {used} bytes in use, there are {counted}"
    total = sum(used for _, _, used in allocation.groups)
    said = allocation.layout.values["bytes_used"]
    if total != said:
        yield f"the superblock counts {said} bytes in use, the block groups {total}"
