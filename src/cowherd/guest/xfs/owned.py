"""XFS's trees of owners and of references, compared with the inodes and headers.

Source: fs/xfs/libxfs/xfs_format.h (struct xfs_rmap_rec, xfs_refcount_rec, XFS_RMAP_OWN_*).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cowherd.extents import Ranges
from cowherd.guest.xfs.forks import Mapped
from cowherd.guest.xfs.groups import Groups, areas_of
from cowherd.guest.xfs.inodes import Inodes
from cowherd.guest.xfs.layout import Layout, number
from cowherd.guest.xfs.trees import FREE_BY_PLACE, FREE_BY_SIZE, FREE_INODES, INODES, OWNERS, REFERENCES

# Owners that are no inodes: the kernel's numbers, as signed 64-bit integers.
_HEADERS, _LOG, _FREE_TREES, _INODE_TREES, _INODES, _REFERENCES, _COPIES = -3, -4, -5, -6, -7, -8, -9
_ATTRIBUTES, _MAP, _UNWRITTEN = 1, 2, 4

Claims = NDArray[np.int64]
"""An array of shape (n, 5): owner, kind of claim, block of the volume less block of the file, first block, end."""


def judge_owners(layout: Layout, groups: Groups, inodes: Inodes) -> None:
    """Compares the trees of owners, if there are any, with the owners of all blocks; adds a complaint if they differ."""
    if OWNERS.name not in groups.trees:
        return
    walked = groups.trees[OWNERS.name]
    pairs = groups.spans(walked)
    # The three upper bits of rm_offset are flags: attribute fork, block of a map, unwritten. Only content has an offset.
    offset = number(walked.records, 16, 8)
    flags = (offset >> 61) & 7
    kinds = ((flags >> 2) & 1) * _ATTRIBUTES | ((flags >> 1) & 1) * _MAP | (flags & 1) * _UNWRITTEN
    owners = number(walked.records, 8, 8)
    plain = (owners > 0) & (kinds & _MAP == 0)
    place = np.where(plain, pairs[:, 0] - (offset & ((1 << 61) - 1)), 0)
    said = np.column_stack((owners, kinds, place, pairs))
    said = said[owners != _COPIES]
    found = _claims(layout, groups, inodes)
    if not np.array_equal(_joined(said, layout), _joined(found, layout)):
        layout.complaints.say("owners", "its trees of owners say other things than its files and structures")


def _claims(layout: Layout, groups: Groups, inodes: Inodes) -> Claims:
    areas = areas_of(groups)
    listed = np.concatenate([groups.listed, *_tree_pairs(groups, FREE_BY_PLACE.name, FREE_BY_SIZE.name, OWNERS.name)])
    heads = areas["group headers"]
    parts = [
        _special(_HEADERS, heads),
        _special(_LOG, np.array([layout.log] if layout.values["log_start"] else [], np.int64).reshape(-1, 2)),
        _special(_FREE_TREES, listed),
        _special(_INODE_TREES, np.concatenate(_tree_pairs(groups, INODES.name, FREE_INODES.name))),
        _special(_INODES, areas.get("inodes", heads[:0])),
        _special(_REFERENCES, np.concatenate([heads[:0], *_tree_pairs(groups, REFERENCES.name)])),
        _of_fork(inodes.content, 0),
        _of_fork(inodes.attributes, _ATTRIBUTES),
    ]
    return np.concatenate(parts)


def _tree_pairs(groups: Groups, *names: str) -> list[Ranges]:
    blocks = [groups.trees[name].blocks for name in names if name in groups.trees]
    return [np.column_stack((part, part + 1)) for part in blocks]


def _special(owner: int, pairs: Ranges) -> Claims:
    nothing = np.zeros(len(pairs), np.int64)
    return np.column_stack((nothing + owner, nothing, nothing, pairs))


def _of_fork(mapped: Mapped, kind: int) -> Claims:
    kinds = kind | np.where(mapped.written, 0, _UNWRITTEN)
    runs = np.column_stack((mapped.inode, kinds, mapped.block - mapped.first, mapped.pairs))
    nothing = np.zeros(len(mapped.own), np.int64)
    maps = np.column_stack((mapped.own_of, nothing + (kind | _MAP), nothing, mapped.own, mapped.own + 1))
    return np.concatenate((runs, maps))


def _joined(claims: Claims, layout: Layout) -> Claims:
    """Sorts claims and joins those that continue each other inside of one group: a tree may have them as one record or as two."""
    claims = claims[np.lexsort((claims[:, 3], claims[:, 2], claims[:, 1], claims[:, 0]))]
    if not len(claims):
        return claims
    before, after = claims[:-1], claims[1:]
    continues = (before[:, :3] == after[:, :3]).all(axis=1) & (before[:, 4] == after[:, 3])
    continues &= after[:, 3] % layout.group_blocks != 0
    first = np.flatnonzero(np.concatenate(([True], ~continues)))
    last = np.concatenate((first[1:], [len(claims)])) - 1
    return np.column_stack((claims[first, :4], claims[last, 4]))


def judge_references(layout: Layout, groups: Groups, inodes: Inodes) -> None:
    """Compares the trees of references, if there are any, with the number of files that share each block.

    Adds a complaint if they differ.
    """
    if REFERENCES.name not in groups.trees:
        return
    walked = groups.trees[REFERENCES.name]
    pairs = groups.spans(walked)
    shared = number(walked.records, 0, 4) < 1 << 31
    said = np.column_stack((number(walked.records, 8, 4), np.zeros_like(pairs[:, 0]), pairs[:, 0] * 0, pairs))[shared]
    found = _counted(inodes.content.pairs)
    found = found[found[:, 0] > 1]
    if not np.array_equal(_by_place(_joined(said, layout)), _by_place(_joined(found, layout))):
        layout.complaints.say("references", "its trees of references say other things than its files")


def _by_place(claims: Claims) -> Claims:
    return claims[np.argsort(claims[:, 3], kind="stable")]


def _counted(pairs: Ranges) -> Claims:
    """Returns for each stretch of blocks how many of the (start, end) pairs cover it."""
    points, index = np.unique(pairs, return_inverse=True)
    steps = np.zeros(len(points), np.int64)
    index = index.reshape(-1, 2)
    np.add.at(steps, index[:, 0], 1)
    np.add.at(steps, index[:, 1], -1)
    counts = np.cumsum(steps)[:-1]
    nothing = np.zeros(max(len(points) - 1, 0), np.int64)
    return np.column_stack((counts, nothing, nothing, points[:-1], points[1:]))
