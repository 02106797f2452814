"""Contradictions between the structures of an ext file system.

Of all that e2fsck finds in its passes, these are the ones that arise when blocks of two states of one file system lie side by
side: each block is whole, but one refers to another that is not there.

Source: the kernel's Documentation/filesystems/ext4/checksums.rst, group_descr.rst, bitmaps.rst.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cowherd import extents
from cowherd.extents import Ranges
from cowherd.guest.crc import crc32c, crc32c_rows
from cowherd.guest.ext.inodes import EA_INODE_FLAG, Inode, Table
from cowherd.guest.ext.layout import BLOCK_UNINIT, INODE_UNINIT, RESIZE_INODE, Layout
from cowherd.guest.ext.tree import Tree
from cowherd.guest.owners import overlaps

_UNCOUNTED = 1  # the link count of a directory with more subdirectories than fit (dir_nlink)
_RESERVED_IN_USE = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
_MOST_NAMED = 20


def contradictions(layout: Layout, table: Table, tree: Tree) -> list[str]:
    """Returns all contradictions as sentences, at most twenty of each kind."""
    found = [
        *_checksums(layout),
        *_bitmaps(layout, table),
        *_blocks(layout, table),
        *_inode_problems(table),
        *_links(layout, table, tree),
    ]
    return [*tree.contradictions[:_MOST_NAMED], *found]


def _checksums(layout: Layout) -> Iterator[str]:
    if layout.seed is None:
        return
    if crc32c(layout.superblock[:1020]) != layout.values["checksum"]:
        yield "the superblock's checksum is wrong"
    rows = layout.groups.raw.copy()
    stored = rows[:, 30].astype(np.uint32) | rows[:, 31].astype(np.uint32) << 8
    rows[:, 30:32] = 0
    numbers = np.arange(layout.count, dtype="<u4").view(np.uint8).reshape(-1, 4)
    heads = crc32c_rows(numbers, np.full(layout.count, layout.seed, np.uint32))
    wrong = np.flatnonzero((crc32c_rows(rows, heads) & 0xFFFF) != stored)
    for group in wrong[:_MOST_NAMED].tolist():
        yield f"the checksum of group {group}'s descriptor is wrong"


def _bitmaps(layout: Layout, table: Table) -> Iterator[str]:
    """Compares the bitmaps with their checksums, with the counts in the descriptors, and with the inodes."""
    groups, free_blocks, free_inodes = layout.groups, 0, 0
    directories = np.zeros(layout.count, np.int64)
    for inode in table.inodes.values():
        directories[(inode.number - 1) // layout.group_inodes] += inode.is_directory
    for group in range(layout.count):
        free_blocks += int(groups.free_blocks[group])
        free_inodes += int(groups.free_inodes[group])
        if not groups.flags[group] & BLOCK_UNINIT:
            yield from _block_bitmap(layout, group)
        if not groups.flags[group] & INODE_UNINIT:
            yield from _inode_bitmap(layout, group, table)
        if directories[group] != groups.directories[group]:
            yield f"group {group} counts {groups.directories[group]} directories, {directories[group]} are there"
    if layout.is_replayed:
        return  # the log does not keep the superblock's counts up to date; a mount counts anew
    if free_blocks != layout.free_blocks // layout.cluster:
        yield f"the superblock counts {layout.free_blocks} free blocks, the groups {free_blocks}"
    if free_inodes != layout.values["free_inodes"]:
        yield f"the superblock counts {layout.values['free_inodes']} free inodes, the groups {free_inodes}"


def _block_bitmap(layout: Layout, group: int) -> Iterator[str]:
    block, length = int(layout.groups.block_bitmap[group]), layout.group_clusters(group)
    # The last group's bitmap is summed whole, although it has fewer blocks than bits.
    free = length - int(layout.bitmap(group, block, length).sum())
    if free != layout.groups.free_blocks[group]:
        yield f"group {group} counts {layout.groups.free_blocks[group]} free blocks, its bitmap {free}"
    if not _bitmap_checksum_holds(layout, group, block, layout.group_blocks // layout.cluster // 8, 24, 56):
        yield f"the checksum of group {group}'s block bitmap is wrong"


def _inode_bitmap(layout: Layout, group: int, table: Table) -> Iterator[str]:
    block, count, first = int(layout.groups.inode_bitmap[group]), layout.group_inodes, group * layout.group_inodes + 1
    marked = layout.bitmap(group, block, count)
    if count - int(marked.sum()) != layout.groups.free_inodes[group]:
        yield f"group {group} counts {layout.groups.free_inodes[group]} free inodes, its bitmap {count - int(marked.sum())}"
    if not _bitmap_checksum_holds(layout, group, block, count // 8, 26, 58):
        yield f"the checksum of group {group}'s inode bitmap is wrong"
    # The reserved inodes of the first group are always marked, whether anything uses them or not.
    used = np.zeros(count, np.bool_)
    numbers = [number - first for number in range(first, first + count) if number in table.inodes]
    used[numbers] = True
    used[[number - first for number in range(first, min(first + count, layout.first_inode))]] = True
    for index in np.flatnonzero(used != marked)[:_MOST_NAMED].tolist():
        yield f"inode {first + index} is {'in use but marked as free' if used[index] else 'marked as in use but free'}"


def _bitmap_checksum_holds(layout: Layout, group: int, block: int, length: int, low: int, high: int) -> bool:
    if layout.seed is None:
        return True
    found = crc32c(layout.volume.read(block * layout.block, length), layout.seed)
    raw = layout.groups.raw[group].tobytes()
    stored = int.from_bytes(raw[low : low + 2], "little")
    if layout.descriptor < 64:
        return (found & 0xFFFF) == stored
    return found == stored | int.from_bytes(raw[high : high + 2], "little") << 16


def _blocks(layout: Layout, table: Table) -> Iterator[str]:
    """Compares the owners of blocks with each other and with the bitmap."""
    # Files with equal attributes share one block of them. The resize inode maps the reserved descriptors, copies included, which
    # are fixed structures already.
    parts = [layout.fixed, *(owned_by(inode) for inode in table.inodes.values() if inode.number != RESIZE_INODE)]
    shared_attributes = {inode.attributes for inode in table.inodes.values() if inode.attributes}
    parts.append(extents.ranges((block, block + 1) for block in shared_attributes))
    resize = table.inodes.get(RESIZE_INODE)
    reserved = extents.ranges((block, block + 1) for block in resize.own) if resize else np.empty((0, 2), np.int64)
    everything = np.concatenate([*parts, extents.subtract(reserved, layout.fixed)])
    owned = layout.whole_clusters(extents.normalised(everything))
    for start, end in overlaps(everything)[:_MOST_NAMED].tolist():
        yield f"blocks {start} to {end - 1} belong to two files or structures"
    used = layout.used_blocks()
    limit = extents.ranges([(layout.first_block, layout.blocks)])
    for start, end in extents.subtract(extents.intersect(owned, limit), used)[:_MOST_NAMED].tolist():
        yield f"blocks {start} to {end - 1} are in use but marked as free"
    for start, end in extents.subtract(used, owned)[:_MOST_NAMED].tolist():
        yield f"blocks {start} to {end - 1} are marked as in use but belong to nothing"


def owned_by(inode: Inode) -> Ranges:
    """Returns the blocks of an inode's content and of its map, in any order."""
    pairs = [(block, block + count) for _, block, count, _ in inode.mapped] + [(block, block + 1) for block in inode.own]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _inode_problems(table: Table) -> Iterator[str]:
    for number in table.stray[:_MOST_NAMED]:
        yield f"inode {number} is in use, in a part of its table that is marked as never used"
    wrong = [inode for inode in table.inodes.values() if inode.problem or inode.complaint]
    for inode in wrong[:_MOST_NAMED]:
        yield f"inode {inode.number}: {inode.problem or inode.complaint}"


def _links(layout: Layout, table: Table, tree: Tree) -> Iterator[str]:
    named = 0
    for inode in table.inodes.values():
        references = tree.references[inode.number]
        # No directory names the reserved inodes but the root (2), the orphan file, and inodes that hold one large attribute.
        if (inode.number in _RESERVED_IN_USE and inode.number != 2) or inode.number == layout.orphan_file:
            continue
        if inode.flags & EA_INODE_FLAG and not references:
            continue
        if references == inode.links or (inode.is_directory and inode.links == _UNCOUNTED and references) or inode.problem:
            continue
        if not references and not inode.links:
            continue
        named += 1
        if named > _MOST_NAMED:
            return
        yield f"inode {inode.number} counts {inode.links} names, {references} lead to it"
