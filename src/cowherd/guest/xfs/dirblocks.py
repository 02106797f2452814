"""The blocks of XFS's directories: entries, the index of their names' hashes, and the index of free room.

Source: XFS Algorithms & Data Structures, "Directories"; fs/xfs/libxfs/xfs_da_format.h, xfs_dir2_data.c, xfs_da_btree.c.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from cowherd.guest.source import Malformed
from cowherd.guest.xfs.layout import Layout

Entry = tuple[bytes, int, int]
"""Name, inode, type (0: not recorded)."""

LEAF_AT, FREE_AT = 1 << 35, 1 << 36
"""Bytes of a directory at which the index of names and that of free room begin (XFS_DIR2_LEAF_OFFSET, XFS_DIR2_FREE_OFFSET)."""
_SINGLE, _DATA, _FREE = (b"XD2B", b"XDB3"), (b"XD2D", b"XDD3"), (b"XD2F", b"XDF3")
_LEAF1, _LEAFN, _NODE = (0xD2F1, 0x3DF1), (0xD2FF, 0x3DFF), (0xFEBE, 0x3EBE)
_UNUSED = 0xFFFF
NO_BLOCK = 0xFFFF
"""Stands in the index of free room for a block that is not there."""
_INDEX = struct.Struct(">II")
_LAST, _DEEPEST = 0xFFFFFFFF, 5


@dataclass
class Parsed:
    """What the data blocks of one directory hold: `entries`, and the (hash, address) pairs that the index must have.

    `largest` has the bytes of the largest free stretch in each block, by the block's number.
    """

    entries: list[Entry] = field(default_factory=list)
    hashes: list[tuple[int, int]] = field(default_factory=list)
    largest: dict[int, int] = field(default_factory=dict)


@dataclass
class Index:
    """The (hash, address) pairs of a directory's names that a look-up can find, in order, and whether the index is whole.

    `rooms` has the largest free stretch of each data block if the index of names lists them, as that of one leaf does.
    """

    pairs: list[tuple[int, int]] = field(default_factory=list)
    rooms: list[int] | None = None
    whole: bool = True


@lru_cache(1 << 16)
def hash_of(name: bytes) -> int:
    """Returns the hash of a name (xfs_da_hashname)."""
    found = 0
    whole = len(name) & ~3
    for at in range(0, whole, 4):
        a, b, c, d = name[at : at + 4]
        found = (a << 21) ^ (b << 14) ^ (c << 7) ^ d ^ ((found << 28 | found >> 4) & 0xFFFFFFFF)
    rest = name[whole:]
    if rest:
        turn = 7 * len(rest)
        found = (found << turn | found >> (32 - turn)) & 0xFFFFFFFF
        for place, byte in enumerate(reversed(rest)):
            found ^= byte << (7 * place)
    return found


def short_entries(layout: Layout, data: bytes) -> tuple[int, list[Entry]]:
    """Returns the parent and the entries of a directory that lies in its inode. Raises `Malformed` if it is damaged."""
    count, wide = data[:2] if len(data) > 1 else (0, 0)
    width = 8 if wide else 4
    at = 2 + width
    if len(data) < at:
        raise Malformed("the directory is too short")
    parent, found = int.from_bytes(data[2:at], "big"), []
    for _ in range(count):
        if at + 3 > len(data):
            raise Malformed("the directory is damaged")
        end = at + 3 + data[at]
        kind = data[end] if layout.has_types and end < len(data) else 0
        after = end + layout.has_types
        if after + width > len(data):
            raise Malformed("the directory is damaged")
        found.append((_checked(data[at + 3 : end]), int.from_bytes(data[after : after + width], "big"), kind))
        at = after + width
    if at != len(data):
        raise Malformed("the directory is damaged")
    return parent, found


def _checked(name: bytes) -> bytes:
    if not name or b"/" in name or b"\0" in name:
        raise Malformed("the directory has names that can't be")
    return name


def parse_data(layout: Layout, data: bytes, number: int, single: bool, found: Parsed) -> list[tuple[int, int]] | None:
    """Adds the entries of a data block to `found`; returns the index at its end if it is a `single` block, otherwise None.

    Raises `Malformed` if the block is damaged.
    """
    magics = _SINGLE if single else _DATA
    if data[:4] != magics[layout.crcs]:
        raise Malformed(f"block {number} of the directory is damaged")
    header, end, index = (64 if layout.crcs else 16), len(data), None
    if single:
        count, stale = _INDEX.unpack_from(data, end - 8)
        end -= 8 + 8 * count
        if end < header or stale > count:
            raise Malformed(f"block {number} of the directory is damaged")
        index = [pair for pair in _INDEX.iter_unpack(data[end:-8]) if pair[1]]
    largest = 0
    base = number * len(data)
    for at, length, entry in _walk(layout, data, header, end, number):
        if entry is None:
            largest = max(largest, length)
        else:
            found.entries.append(entry)
            found.hashes.append((hash_of(entry[0]), base + at >> 3))  # entries are aligned to 8 bytes, and addressed in these
    # The header lists the three largest free stretches (bestfree), the largest first, as offset and length.
    said = struct.unpack_from(">H", data, (48 if layout.crcs else 4) + 2)[0]
    if said != largest:
        raise Malformed(f"block {number} of the directory says other things of its free room than it has")
    found.largest[number] = largest
    return index


def _walk(layout: Layout, data: bytes, at: int, end: int, number: int) -> Iterator[tuple[int, int, Entry | None]]:
    """Yields (offset, length, entry) of each stretch of a block; the entry of free room is None."""
    damaged = Malformed(f"block {number} of the directory is damaged")
    while at < end:
        if end - at < 8:
            raise damaged
        tag, length = struct.unpack_from(">HH", data, at)
        entry = None
        if tag != _UNUSED:
            name_length = data[at + 8] if at + 8 < end else 0
            length = (8 + 1 + name_length + layout.has_types + 2 + 7) & ~7
            if at + length > end:
                raise damaged
            name_end = at + 9 + name_length
            kind = data[name_end] if layout.has_types else 0
            entry = _checked(data[at + 9 : name_end]), int.from_bytes(data[at : at + 8], "big"), kind
        # The tag, the last two bytes of any stretch, names its own begin.
        if length < 8 or length % 8 or at + length > end or int.from_bytes(data[at + length - 2 : at + length], "big") != at:
            raise damaged
        yield at, length, entry
        at += length


def index_of(layout: Layout, blocks: dict[int, bytes], first: int) -> Index:
    """Returns the index of names of a larger directory, from its blocks by number. Its root is block `first`."""
    # One leaf (LEAF1) ends with a count of data blocks, and before it the largest free stretch of each.
    data = blocks.get(first, b"")
    if int.from_bytes(data[8:10], "big") == _LEAF1[layout.crcs]:
        (held,) = struct.unpack_from(">I", data, len(data) - 4)
        if held * 2 + 4 > len(data) - (64 if layout.crcs else 16) or len(blocks) != 1:
            return Index(whole=False)
        return Index(_leaf(layout, data), list(struct.unpack_from(f">{held}H", data, len(data) - 4 - 2 * held)))
    found, visited = Index(), set[int]()
    pending = [(first, -1, 0, _LAST, -1)]
    while pending:
        number, level, low, high, last = pending.pop()
        data = blocks.get(number, b"")
        magic = int.from_bytes(data[8:10], "big")
        if number in visited or magic not in (_LEAFN[layout.crcs], _NODE[layout.crcs]):
            found.whole = False
            continue
        visited.add(number)
        if magic == _LEAFN[layout.crcs]:
            pairs = _leaf(layout, data, stale=True)
            found.pairs += [pair for pair in pairs if pair[1] and low <= pair[0] <= high]
            found.whole &= level <= 0 and (last < 0 or (pairs[-1:] != [] and pairs[-1][0] == last))
            continue
        depth, children = _node(layout, data)
        tops = [top for top, _ in children]
        found.whole &= level in (-1, depth) and (last < 0 or tops[-1:] == [last]) and tops == sorted(tops)
        bounds = zip([low, *tops], [*tops[:-1], high], children, strict=False)
        pending += [(child, depth - 1, least, most, top) for least, most, (top, child) in reversed(list(bounds))]
    found.whole &= visited == blocks.keys()
    return found


def _node(layout: Layout, data: bytes) -> tuple[int, list[tuple[int, int]]]:
    """Returns the level of an inner block of the index, and (last hash, block) of its children; (-1, []) if it is damaged."""
    start = 64 if layout.crcs else 16
    count, depth = struct.unpack_from(">HH", data, 56 if layout.crcs else 12)
    if not 1 <= depth <= _DEEPEST or not 0 < count <= (len(data) - start) // 8:
        return -1, []
    return depth, list(_INDEX.iter_unpack(data[start : start + 8 * count]))


def _leaf(layout: Layout, data: bytes, *, stale: bool = False) -> list[tuple[int, int]]:
    start = 64 if layout.crcs else 16
    (count,) = struct.unpack_from(">H", data, 56 if layout.crcs else 12)
    count = min(count, (len(data) - start) // 8)
    return [pair for pair in _INDEX.iter_unpack(data[start : start + 8 * count]) if pair[1] or stale]


def free_room(layout: Layout, blocks: list[bytes]) -> dict[int, int]:
    """Returns the largest free stretch of each data block by number, from the blocks of the index of free room.

    Raises `Malformed` if one of them is damaged.
    """
    found: dict[int, int] = {}
    start, at = (64, 48) if layout.crcs else (16, 4)
    for data in blocks:
        first, count = struct.unpack_from(">II", data, at)
        if data[:4] != _FREE[layout.crcs] or start + 2 * count > len(data):
            raise Malformed("the index of the directory's free room is damaged")
        stretches = struct.unpack_from(f">{count}H", data, start)
        found |= {first + number: length for number, length in enumerate(stretches) if length != NO_BLOCK}
    return found
