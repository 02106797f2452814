"""Contradictions between the structures of an XFS file system.

Of all that xfs_repair finds, these are the ones that arise when blocks of two states of one file system lie side by side: each
block is whole, but one refers to another that is not there.
"""

from __future__ import annotations

import stat

import numpy as np

from cowherd import extents
from cowherd.guest.owners import overlaps
from cowherd.guest.xfs.attributes import judge_attributes
from cowherd.guest.xfs.directories import Tree
from cowherd.guest.xfs.groups import CHUNK, Groups, areas_of, tree_blocks
from cowherd.guest.xfs.inodes import REFLINKED, Inodes
from cowherd.guest.xfs.layout import BTREE_COUNTS, NEEDS_REPAIR, Layout, Numbers, number
from cowherd.guest.xfs.log import Log
from cowherd.guest.xfs.owned import judge_owners, judge_references
from cowherd.guest.xfs.trees import FREE_BY_PLACE, FREE_BY_SIZE, FREE_INODES, INODES, OWNERS, REFERENCES

_NOWHERE = 0xFFFFFFFF


def contradictions(layout: Layout, groups: Groups, inodes: Inodes, tree: Tree, log: Log | None) -> list[str]:
    """Returns all contradictions as sentences, at most twenty of each kind."""
    if layout.incompat & NEEDS_REPAIR:
        layout.complaints.say("repair", "it is marked as in need of a repair")
    _judge_free_space(layout, groups)
    _judge_chunks(layout, groups)
    _judge_unlinked(layout, groups)
    judge_attributes(layout, inodes)
    _judge_inodes(layout, inodes, tree)
    if not any(walked.faults for walked in groups.trees.values()):
        _judge_blocks(layout, groups, inodes)
        judge_owners(layout, groups, inodes)
        judge_references(layout, groups, inodes)
    # A structure that was changed last by a record that the log has not reached comes from another state.
    if log and layout.newest > log.sequence:
        layout.complaints.say("log", "some of its structures are newer than its log")
    return layout.complaints.said


def _sums(layout: Layout, groups: Numbers, values: Numbers) -> Numbers:
    return np.bincount(groups, weights=values, minlength=layout.groups).astype(np.int64)


def _compare(layout: Layout, what: str, said: Numbers, found: Numbers) -> None:
    for group in np.flatnonzero(said != found).tolist():
        layout.complaints.say(what, f"group {group} counts {said[group]} {what}, {found[group]} are there")


def _judge_free_space(layout: Layout, groups: Groups) -> None:
    place, size = groups.trees[FREE_BY_PLACE.name], groups.trees[FREE_BY_SIZE.name]
    lengths, heads = number(place.records, 4, 4), groups.free_heads
    _compare(layout, "free blocks", heads["free"], _sums(layout, place.owners, lengths))
    longest = np.zeros(layout.groups, np.int64)
    np.maximum.at(longest, place.owners, lengths)
    _compare(layout, "blocks in its longest free stretch", heads["longest"], longest)
    rows = np.column_stack((size.owners, number(size.records, 4, 4), number(size.records, 0, 4)))
    ordered = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
    mirrored = np.column_stack((place.owners, lengths, number(place.records, 0, 4)))
    mirrored = mirrored[np.lexsort((mirrored[:, 2], mirrored[:, 1], mirrored[:, 0]))]
    if not np.array_equal(rows, mirrored) or not np.array_equal(rows, ordered):
        layout.complaints.say("free trees", "its two trees of free space differ")
    # agf_btreeblks counts the trees of free space and of owners without their roots; the other trees have counts of their own.
    used = tree_blocks(layout, place) + tree_blocks(layout, size) - 2
    if OWNERS.name in groups.trees:
        owners = tree_blocks(layout, groups.trees[OWNERS.name])
        _compare(layout, "blocks of its tree of owners", heads["owner_blocks"], owners)
        used += owners - 1
    if REFERENCES.name in groups.trees:
        _compare(
            layout,
            "blocks of its tree of references",
            heads["reference_blocks"],
            tree_blocks(layout, groups.trees[REFERENCES.name]),
        )
    if layout.lazy_counts:
        _compare(layout, "blocks of its trees", heads["tree_blocks"], used)
    # Blocks on the groups' lists and in those trees count as free in the superblock, since they return when the space does.
    free = int(heads["free"].sum() + heads["listed"].sum() + (heads["tree_blocks"].sum() if layout.lazy_counts else 0))
    if free != layout.values["free_blocks"]:
        layout.complaints.say("count", f"the superblock counts {layout.values['free_blocks']} free blocks, the groups {free}")


def _judge_chunks(layout: Layout, groups: Groups) -> None:
    chunks, heads = groups.chunks(), groups.inode_heads
    there, free = chunks.there.sum(axis=1, dtype=np.int64), (chunks.free & chunks.there).sum(axis=1, dtype=np.int64)
    for first in chunks.first[(there != chunks.said) | (free != chunks.said_free)].tolist():
        layout.complaints.say("chunk", f"the record of inodes {first} to {first + CHUNK - 1} counts others than it lists")
    _compare(layout, "inodes", heads["inodes"], _sums(layout, chunks.groups, there))
    _compare(layout, "free inodes", heads["free"], _sums(layout, chunks.groups, free))
    for name, column, label in (("inodes", "inodes", "inodes"), ("free_inodes", "free", "free inodes")):
        if layout.values[name] != (total := int(heads[column].sum())):
            layout.complaints.say("count", f"the superblock counts {layout.values[name]} {label}, the groups {total}")
    if FREE_INODES.name in groups.trees:
        listed, tree = groups.trees[FREE_INODES.name], groups.trees[INODES.name]
        with_free = free > 0
        same = np.array_equal(listed.owners, tree.owners[with_free]) and np.array_equal(listed.records, tree.records[with_free])
        if not same:
            layout.complaints.say("inode trees", "its two trees of inodes differ")
    if layout.ro_compat & BTREE_COUNTS:
        for shape, column in ((INODES, "tree_blocks"), (FREE_INODES, "free_tree_blocks")):
            if shape.name in groups.trees:
                found = tree_blocks(layout, groups.trees[shape.name])
                _compare(layout, f"blocks of its tree of {shape.name}", heads[column], found)


def _judge_unlinked(layout: Layout, groups: Groups) -> None:
    """Complains of inodes without a name: their lists are empty once a file system was unmounted."""
    heads = groups.unlinked.view(">u4")
    for group in np.flatnonzero((heads != _NOWHERE).any(axis=1)).tolist():
        layout.complaints.say("unlinked", f"group {group} lists inodes that are in use without a name")


def _judge_inodes(layout: Layout, inodes: Inodes, tree: Tree) -> None:
    say, values = layout.complaints.say, layout.values
    for inode in inodes.stray:
        say("stray", f"inode {inode} is in use but marked as free")
    for inode in inodes.not_in_use:
        say("not in use", f"inode {inode} is marked as in use but free")
    for inode, text in (inodes.problems | inodes.complaints).items():
        if text != "its content lies on another device":
            say("inode", f"inode {inode}: {text}")
    special = {values["realtime_bitmap"], values["realtime_summary"]} | layout.quota_inodes
    numbers, links, modes = (inodes.table[name].tolist() for name in ("number", "links", "mode"))
    for inode, counted, mode in zip(numbers, links, modes, strict=True):
        references = tree.references[inode]
        if inode in special or inode in inodes.problems:
            continue
        if references != counted:
            say("links", f"inode {inode} counts {counted} names, {references} lead to it")
        elif not references or (stat.S_ISDIR(mode) and references < 2):
            say("links", f"nothing leads to inode {inode}")


def _judge_blocks(layout: Layout, groups: Groups, inodes: Inodes) -> None:
    """Compares the owners of blocks with each other and with the free space."""
    numbers, flags = inodes.table["number"], inodes.table["flags2"]
    shared = numbers[flags & REFLINKED != 0]
    content = inodes.content
    may_share = np.isin(content.inode, shared)
    fixed = list(areas_of(groups).values())[1:]  # all but the superblock, which is the first group header as well
    own = np.concatenate([content.own, inodes.attributes.own])
    alone = [content.pairs[~may_share], inodes.attributes.pairs, np.column_stack((own, own + 1)), *fixed]
    log = np.array([layout.log] if layout.values["log_start"] else [], np.int64).reshape(-1, 2)
    together = extents.normalised(content.pairs[may_share])
    everything = np.concatenate([*alone, log, groups.listed, together, groups.spans(groups.trees[FREE_BY_PLACE.name])])
    for start, end in overlaps(everything).tolist():
        layout.complaints.say("twice", f"blocks {start} to {end - 1} belong to two files or structures, or are free")
    known = extents.union(extents.normalised(everything), groups.copies_on_write)
    for start, end in extents.subtract(extents.ranges([(0, layout.blocks)]), known).tolist():
        layout.complaints.say("lost", f"blocks {start} to {end - 1} are not free but belong to nothing")
