"""The items of btrfs's trees: inodes, names, extents of files, roots.

Source: the kernel's include/uapi/linux/btrfs_tree.h; the structs below have its order of fields.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cowherd.guest.btrfs.layout import KEY
from cowherd.guest.btrfs.nodes import Root
from cowherd.guest.source import Malformed

INODE_ITEM, DIR_ITEM, EXTENT_DATA, EXTENT_CSUM, ROOT_ITEM, ROOT_REF = 1, 84, 108, 128, 132, 156
EXTENT_ITEM, METADATA_ITEM, BLOCK_GROUP_ITEM = 168, 169, 192
FIRST_INODE = 256

INLINE, REGULAR, PREALLOCATED = 0, 1, 2
_NO_CHECKSUMS = 1  # BTRFS_INODE_NODATASUM, as with chattr +C

_INODE = struct.Struct("<QQQQQIIIIQQ")
_DIR = struct.Struct("<17sQHHB")
_EXTENT_HEAD, _EXTENT = struct.Struct("<QQBBHB"), struct.Struct("<QQQQ")
_ROOT = struct.Struct("<160sQQQQQQQI17sB")
_ROOT_REF = struct.Struct("<QQH")


@dataclass(frozen=True)
class Inode:
    """An inode: `size` in bytes, `links` the names that it counts; `summed` says whether its content has checksums."""

    size: int
    links: int
    mode: int
    device: int
    summed: bool


@dataclass(frozen=True)
class Name:
    """An entry of a directory, and the object and type of the key that it leads to."""

    name: bytes
    object: int
    type: int


@dataclass(frozen=True)
class Extent:
    """A stretch of a file, from `start` on. `inline` is its content, compressed or not, if that lies in the tree itself.

    Otherwise it has `disk_length` bytes on the disk, at the logical address `address` (0: a hole). Of their uncompressed content,
    the file shows `length` bytes from `offset` on.
    """

    start: int
    kind: int
    compression: int
    inline: bytes
    address: int = 0
    disk_length: int = 0
    offset: int = 0
    length: int = 0
    generation: int = 0


@dataclass(frozen=True)
class RootItem:
    """A tree as the root tree lists it. A tree without references is being deleted."""

    root: Root
    directory: int
    references: int


def inode_of(body: bytes) -> Inode:
    """Reads an inode item. Raises `Malformed` if it is too short."""
    if len(body) < 160:
        raise Malformed("an inode is cut short")
    _, _, size, _, _, links, _, _, mode, device, flags = _INODE.unpack_from(body)
    return Inode(size, links, mode, device, not flags & _NO_CHECKSUMS)


def names_of(body: bytes) -> list[Name]:
    """Reads the entries of a directory that share one hash. Raises `Malformed` if one is too short or has no proper name."""
    found, at = [], 0
    while at < len(body):
        if at + _DIR.size > len(body):
            raise Malformed("an entry of a directory is cut short")
        location, _, data_length, name_length, _ = _DIR.unpack_from(body, at)
        at += _DIR.size
        name = body[at : at + name_length]
        if len(name) < name_length or not name or b"/" in name or b"\0" in name:
            raise Malformed("an entry of a directory has no proper name")
        object_id, kind, _ = KEY.unpack(location)
        found.append(Name(name, object_id, kind))
        at += name_length + data_length
    return found


def extent_of(start: int, body: bytes) -> Extent:
    """Reads an extent of a file. Raises `Malformed` if it is too short, of an unknown kind, or its numbers make no sense."""
    if len(body) < _EXTENT_HEAD.size:
        raise Malformed("an extent of a file is cut short")
    generation, _, compression, encryption, encoding, kind = _EXTENT_HEAD.unpack_from(body)
    if encryption or encoding or kind > PREALLOCATED:
        raise Malformed("a file has an extent of a kind that is not known here")
    if kind == INLINE:
        return Extent(start, kind, compression, body[_EXTENT_HEAD.size :])
    if len(body) < _EXTENT_HEAD.size + _EXTENT.size:
        raise Malformed("an extent of a file is cut short")
    address, disk_length, offset, length = _EXTENT.unpack_from(body, _EXTENT_HEAD.size)
    # Of a compressed extent, offset and length count uncompressed bytes, which may be more than lie on the disk.
    if address and not compression and offset + length > disk_length:
        raise Malformed("an extent of a file shows more than it has on the disk")
    if max(start + length, address + disk_length) >= 1 << 63:
        raise Malformed("a file is said to be longer than files can be")
    return Extent(start, kind, compression, b"", address, disk_length, offset, length, generation)


def root_of(tree: int, body: bytes) -> RootItem:
    """Reads where a tree begins. Raises `Malformed` if the item is too short."""
    if len(body) < _ROOT.size + 1:
        raise Malformed("a root is cut short")
    _, generation, directory, address, _, _, _, _, references, _, _ = _ROOT.unpack_from(body)
    return RootItem(Root(tree, address, min(body[_ROOT.size], 8), generation), directory, references)


def reference_of(body: bytes) -> tuple[int, bytes]:
    """Returns (directory, name) that a subvolume has in its parent. Raises `Malformed` if the item is too short."""
    if len(body) < _ROOT_REF.size:
        raise Malformed("a subvolume's place is cut short")
    directory, _, length = _ROOT_REF.unpack_from(body)
    return directory, body[_ROOT_REF.size : _ROOT_REF.size + length]
