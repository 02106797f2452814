"""The extended attributes of XFS's inodes: whether the blocks of each belong together.

Source: fs/xfs/libxfs/xfs_da_format.h, xfs_attr_leaf.c, xfs_attr_remote.c.
"""

from __future__ import annotations

import struct

import numpy as np

from cowherd.guest.source import Malformed
from cowherd.guest.xfs.blocks import HASHED, REMOTE, wrong
from cowherd.guest.xfs.dirblocks import hash_of
from cowherd.guest.xfs.inodes import Inodes
from cowherd.guest.xfs.layout import Layout, Numbers

_LEAF, _NODE = (0xFBEE, 0x3BEE), (0xFEBE, 0x3EBE)
_REMOTE_MAGIC = b"XARM"
_LOCAL, _PARENT, _INCOMPLETE = 0x1, 0x8, 0x80
_BATCH = 4096
_ENTRY, _CHILD = struct.Struct(">IHBx"), struct.Struct(">II")


def judge_attributes(layout: Layout, inodes: Inodes) -> None:
    """Adds a complaint for each inode whose attributes make no sense. Raises `Malformed` if they have too many blocks."""
    for inode, data in inodes.local_attributes.items():
        if not _short_is_sound(data):
            inodes.complaints.setdefault(inode, "its attributes are damaged")
    mapped = inodes.attributes
    if int(mapped.count.sum()) > layout.blocks:
        raise Malformed("its attributes have more blocks than there are")
    row = np.repeat(np.arange(len(mapped.inode)), mapped.count)
    within = np.arange(len(row)) - np.repeat(np.cumsum(mapped.count) - mapped.count, mapped.count)
    owners, places, blocks = mapped.inode[row], mapped.first[row] + within, mapped.block[row] + within
    start = 0
    for end in [*(np.flatnonzero(np.diff(owners)) + 1).tolist(), len(owners)]:
        if end - start >= _BATCH or end == len(owners) > start:
            _judge_blocks(layout, inodes, owners[start:end], places[start:end], blocks[start:end])
            start = end


def _judge_blocks(layout: Layout, inodes: Inodes, owners: Numbers, places: Numbers, blocks: Numbers) -> None:
    rows = layout.rows(blocks)
    remote = (rows[:, :4] == np.frombuffer(_REMOTE_MAGIC, np.uint8)).all(axis=1)
    bad = np.zeros(len(rows), np.bool_)
    bad[remote] = wrong(layout, REMOTE, rows[remote], blocks[remote], owners[remote])
    bad[~remote] = wrong(layout, HASHED, rows[~remote], blocks[~remote], owners[~remote])
    for inode in owners[bad].tolist():
        inodes.complaints.setdefault(inode, "its attributes are damaged")
    held: dict[int, dict[int, bytes]] = {}
    for at, inode in enumerate(owners.tolist()):
        held.setdefault(inode, {})[int(places[at])] = rows[at].tobytes()
    for inode, blocks_of in held.items():
        try:
            _judge_tree(layout, blocks_of)
        except (Malformed, struct.error, IndexError):
            inodes.complaints.setdefault(inode, "its attributes are damaged")


def _judge_tree(layout: Layout, blocks: dict[int, bytes]) -> None:
    """Follows the index from block 0 on. In each leaf, the names must have the hashes that it lists, in order."""
    damaged = Malformed("its attributes are damaged")
    pending, visited = [(0, -1, -1)], 0
    while pending:
        number, level, last = pending.pop()
        data = blocks.get(number, b"")
        visited += 1
        if not data or visited > len(blocks):
            raise damaged
        magic = int.from_bytes(data[8:10], "big")
        if magic == _LEAF[layout.crcs] and level <= 0:
            hashes = _leaf_hashes(layout, data, blocks)
        elif magic == _NODE[layout.crcs] and level != 0:
            count, depth = struct.unpack_from(">HH", data, 56 if layout.crcs else 12)
            start = 64 if layout.crcs else 16
            if level not in (-1, depth) or not 1 <= depth <= 5:
                raise damaged
            children = [_CHILD.unpack_from(data, start + 8 * child) for child in range(count)]
            hashes = [top for top, _ in children]
            pending += [(child, depth - 1, top) for top, child in children]
        else:
            raise damaged
        if hashes != sorted(hashes) or (last >= 0 and hashes[-1:] != [last]):
            raise damaged


def _leaf_hashes(layout: Layout, data: bytes, blocks: dict[int, bytes]) -> list[int]:
    (count,) = struct.unpack_from(">H", data, 56 if layout.crcs else 12)
    start = 80 if layout.crcs else 32
    found = []
    for number in range(count):
        value, at, flags = _ENTRY.unpack_from(data, start + 8 * number)
        found.append(value)
        if flags & _LOCAL:
            length, names = struct.unpack_from(">HB", data, at)
            name = data[at + 3 : at + 3 + names]
        else:
            # A value too large for the leaf has blocks of its own; those of an incomplete one, left by a crash, may be missing.
            block, length, names = struct.unpack_from(">IIB", data, at)
            name = data[at + 9 : at + 9 + names]
            if length and not flags & _INCOMPLETE and not blocks.get(block):
                raise Malformed("its attributes are damaged")
        if len(name) != names or (not flags & _PARENT and hash_of(name) != value):
            raise Malformed("its attributes are damaged")
    return found


def _short_is_sound(data: bytes) -> bool:
    """Returns whether attributes inside of an inode are sound: total length, count, then entries of two lengths, flags, bytes."""
    if len(data) < 4:
        return False
    length, count = struct.unpack_from(">HB", data)
    at = 4
    for _ in range(count):
        if at + 3 > len(data):
            return False
        at += 3 + data[at] + data[at + 1]
    return bool(at == length <= len(data))
