"""The directories of an ext file system: which path leads to which inode.

Source: the kernel's Documentation/filesystems/ext4/directory.rst. Hashed directories are read as linear ones, which their blocks
are made to pass for: only the checksums of the inner blocks need to know of the index.
"""

from __future__ import annotations

import os
import stat
import struct
from collections import Counter
from dataclasses import dataclass, field

from cowherd.guest.ext.inodes import INLINE_DATA_FLAG, Inode, Table, checksum_of
from cowherd.guest.ext.layout import FILETYPE, ROOT_INODE, Layout

_ENTRY = struct.Struct("<IHBB")
_TAIL = 12  # bytes at the end of a block: the checksum, dressed as an unused entry of type 0xDE
_TYPES = {1: stat.S_IFREG, 2: stat.S_IFDIR, 3: stat.S_IFCHR, 4: stat.S_IFBLK, 5: stat.S_IFIFO, 6: stat.S_IFSOCK, 7: stat.S_IFLNK}
_INDEX_FLAG = 0x1000


@dataclass
class Tree:
    """Paths in the order of directories; `references` counts the names of each inode, . and .. included.

    `dangling` maps each path whose inode can't be read to the reason.
    """

    paths: dict[str, Inode] = field(default_factory=dict)
    dangling: dict[str, str] = field(default_factory=dict)
    references: Counter[int] = field(default_factory=Counter)
    contradictions: list[str] = field(default_factory=list)


def read_tree(layout: Layout, inodes: Table) -> Tree:
    """Follows all directories from the root down."""
    tree = Tree()
    root = inodes.find(ROOT_INODE)
    if root is None or not root.is_directory or root.problem:
        tree.contradictions.append("there is no root directory")
        return tree
    pending, seen = [("", root, ROOT_INODE)], {ROOT_INODE}
    directories = sum(inode.is_directory for inode in inodes.inodes.values())
    while pending:
        path, directory, parent = pending.pop()
        layout.volume.disk.report(directories + len(seen) - len(pending), 2 * directories)
        for name, number, kind in _entries(layout, directory, path, tree):
            tree.references[number] += 1
            if name in (b".", b".."):
                if number != (directory.number if name == b"." else parent):
                    tree.contradictions.append(f"{path or '/'}: {name.decode()} leads to inode {number}")
                continue
            inode = _look_up(layout, inodes, number, kind, full := f"{path}/{os.fsdecode(name)}", tree)
            if inode is None:
                continue
            if full in tree.paths:
                tree.contradictions.append(f"{full}: there twice")
            tree.paths[full] = inode
            if inode.is_directory and not inode.problem:
                if number in seen:
                    tree.contradictions.append(f"{full}: a directory that has another name")
                else:
                    seen.add(number)
                    pending.append((full, inode, directory.number))
    return tree


def _look_up(layout: Layout, inodes: Table, number: int, kind: int, path: str, tree: Tree) -> Inode | None:
    inode = inodes.find(number)
    if inode is None:
        tree.contradictions.append(f"{path}: leads to inode {number}, which is not in use")
        tree.dangling[path] = "its inode is not in use"
        return None
    if layout.incompat & FILETYPE and _TYPES.get(kind, 0) not in (0, stat.S_IFMT(inode.mode)):
        tree.contradictions.append(f"{path}: its directory and its inode say different things of what it is")
    return inode


def _entries(layout: Layout, directory: Inode, path: str, tree: Tree) -> list[tuple[bytes, int, int]]:
    if directory.flags & INLINE_DATA_FLAG:
        return _inline_entries(directory, path, tree)
    found: list[tuple[bytes, int, int]] = []
    blocks = -(-directory.size // layout.block)
    held = {first + n: block + n for first, block, count, written in directory.mapped if written for n in range(count)}
    indexed = struct.unpack_from("<I", directory.raw, 32)[0] & _INDEX_FLAG
    for number in range(blocks):
        if number not in held:
            tree.contradictions.append(f"{path or '/'}: block {number} of the directory is missing")
            continue
        data = layout.volume.read(held[number] * layout.block, layout.block)
        if not _checksum_holds(layout, directory, data, number, bool(indexed)):
            tree.contradictions.append(f"{path or '/'}: the checksum of block {number} of the directory is wrong")
            continue
        if not _parse(data, found):
            tree.contradictions.append(f"{path or '/'}: block {number} of the directory is damaged")
    if [name for name, _, _ in found[:2]] != [b".", b".."]:
        tree.contradictions.append(f"{path or '/'}: the directory does not begin as one")
    return found


def _inline_entries(directory: Inode, path: str, tree: Tree) -> list[tuple[bytes, int, int]]:
    """Returns the entries of a directory inside of its inode. It has no names . and .., and its parent only as a number."""
    held = directory.inline or b""
    # Two lists of entries: one fills i_block, 60 bytes, behind the parent's number, the other the attribute system.data.
    found = [(b".", directory.number, 2), (b"..", int.from_bytes(held[:4], "little"), 2)]
    if not (_parse(held[4:60], found) and _parse(held[60:], found)):
        tree.contradictions.append(f"{path or '/'}: the directory inside of inode {directory.number} is damaged")
    return found


def _parse(data: bytes, found: list[tuple[bytes, int, int]]) -> bool:
    """Adds (name, inode, type) of the entries of one block to `found`. Returns False if they are damaged."""
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            return False
        number, length, name_length, kind = _ENTRY.unpack_from(data, at)
        # An entry as long as a block of 64 KiB does not fit 16 bits (ext4_rec_len_from_disk).
        length = length if length not in (0, 65535) else 65536
        if length < 8 + name_length or length % 4 or at + length > len(data):
            return False
        if number:
            name = data[at + 8 : at + 8 + name_length]
            if not name or b"/" in name or b"\0" in name:
                return False
            found.append((name, number, kind))
        at += length
    return True


def _checksum_holds(layout: Layout, directory: Inode, data: bytes, number: int, indexed: bool) -> bool:
    if layout.seed is None:
        return True
    inode, length, name_length, kind, stored = struct.unpack_from("<IHBBI", data, len(data) - _TAIL)
    is_leaf = (inode, length, name_length, kind) == (0, _TAIL, 0, 0xDE)
    if is_leaf and checksum_of(layout, directory, data[:-_TAIL]) == stored:
        return True
    # An inner block of the index may still end as a leaf does, because it was one before the directory grew.
    return indexed and _index_checksum_holds(layout, directory, data, number)


def _index_checksum_holds(layout: Layout, directory: Inode, data: bytes, number: int) -> bool:
    """Checks an inner block of a hashed directory: its checksum lies behind the room for its entries."""
    # dx_countlimit: behind the entries . and .. and eight bytes about the hash in the first block, behind one in the others. The
    # sum covers the entries in use, not the room.
    at = 32 if number == 0 else 8
    limit, count = struct.unpack_from("<HH", data, at)
    end, tail = at + 8 * count, at + 8 * limit
    if count > limit or tail + 8 > len(data):
        return False
    reserved, stored = data[tail : tail + 4], int.from_bytes(data[tail + 4 : tail + 8], "little")
    return checksum_of(layout, directory, data[:end] + reserved + bytes(4)) == stored
