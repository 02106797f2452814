"""The inodes of an ext file system, and where their blocks are.

Source: the kernel's Documentation/filesystems/ext4: inodes.rst, ifork.rst (block maps and extents), attributes.rst, orphan.rst.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cowherd import extents
from cowherd.guest.crc import START, crc32c, crc32c_rows
from cowherd.guest.ext.layout import EA_INODE, INODE_UNINIT, RESIZE_INODE, Layout
from cowherd.guest.source import Malformed

_GROUP_CHECKSUMS, _ORPHANS_PRESENT = 0x10, 0x10000
EXTENTS_FLAG, HUGE_FILE_FLAG, EA_INODE_FLAG, INLINE_DATA_FLAG = 0x80000, 0x40000, 0x200000, 0x10000000
_ATTRIBUTES_MAGIC, _SYSTEM = b"\0\0\x02\xea", 7
_ATTRIBUTE = struct.Struct("<BBHIII")
_EXTENT_MAGIC, _LONGEST_WRITTEN, _DEEPEST = 0xF30A, 32768, 5  # a longer ee_len means unwritten: 32768 is taken off
_HEADER = struct.Struct("<HHHHI")
_LEAF, _INDEX = struct.Struct("<IHHI"), struct.Struct("<IIHH")  # the halves of a block number: high, low; low, high


@dataclass
class Inode:
    """One inode that is in use. `mapped` are (block in the file, block, count, written) runs, `own` the blocks of its map.

    `problem` says why it can't be read, `complaint` which of its parts contradict each other.
    """

    number: int
    mode: int
    size: int
    links: int
    raw: bytes
    mapped: list[tuple[int, int, int, bool]] = field(default_factory=list)
    own: list[int] = field(default_factory=list)
    attributes: int = 0
    problem: str | None = None
    complaint: str | None = None

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def flags(self) -> int:
        """Its flags (i_flags)."""
        return int.from_bytes(self.raw[32:36], "little")

    @property
    def inline(self) -> bytes | None:
        """The content inside of the inode: a short file or link, or a device's number; None if it is in blocks."""
        if self.flags & INLINE_DATA_FLAG:
            return (self.raw[40:100] + self.more_inline)[: self.size]
        if stat.S_ISLNK(self.mode) and self.size < 60 and not self.mapped:
            return self.raw[40 : 40 + self.size]
        return None if stat.S_IFMT(self.mode) in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK) else self.raw[40:60]

    @property
    def more_inline(self) -> bytes:
        """The rest of inline content that does not fit in i_block: the value of the attribute system.data."""
        first = 128 + int.from_bytes(self.raw[128:130], "little")
        if self.raw[first : first + 4] != _ATTRIBUTES_MAGIC:
            return b""
        at = first + 4
        while at + _ATTRIBUTE.size <= len(self.raw) and self.raw[at : at + 4] != bytes(4):
            length, index, place, _, size, _ = _ATTRIBUTE.unpack_from(self.raw, at)
            name = self.raw[at + _ATTRIBUTE.size : at + _ATTRIBUTE.size + length]
            if (index, name) == (_SYSTEM, b"data"):
                return self.raw[first + 4 + place : first + 4 + place + size]
            at += _ATTRIBUTE.size + -(-length // 4) * 4
        return b""


@dataclass
class Table:
    """All inodes in use, by number. `stray` are those in a part of a table that the descriptors call unused.

    The kernel finds a stray inode when it follows a directory; so does `find`.
    """

    layout: Layout
    inodes: dict[int, Inode] = field(default_factory=dict)
    stray: list[int] = field(default_factory=list)

    def find(self, number: int) -> Inode | None:
        """Returns the inode of this number, or None if it is not in use."""
        if number in self.inodes or not 0 < number <= self.layout.count * self.layout.group_inodes:
            return self.inodes.get(number)
        group, index = divmod(number - 1, self.layout.group_inodes)
        if index < _used_part(self.layout, group):
            return None
        for inode in _read_group(self.layout, group, index, 1):
            self.inodes[number] = inode
            self.stray.append(number)
        return self.inodes.get(number)


def read_inodes(layout: Layout) -> Table:
    """Reads every inode table. An inode whose checksum or block map is wrong has a `problem`."""
    table = Table(layout)
    for group in range(layout.count):
        layout.volume.disk.report(group, 2 * layout.count)
        for inode in _read_group(layout, group, 0, _used_part(layout, group)):
            table.inodes[inode.number] = inode
    if layout.is_replayed:
        _take_orphans(layout, table)
    return table


def _take_orphans(layout: Layout, table: Table) -> None:
    """Adds the orphans: inodes that were open and had no name any more. The next mount frees them."""
    pending, seen = [layout.values["last_orphan"]], set[int]()
    keeper = table.inodes.get(layout.orphan_file) if layout.ro_compat & _ORPHANS_PRESENT else None
    for _, block, count, _ in keeper.mapped if keeper else []:
        for at in range(block, block + count):
            data = layout.volume.read(at * layout.block, layout.block)
            pending += struct.unpack(f"<{layout.block // 4 - 2}I", data[:-8])
    while pending:
        number = pending.pop()
        if not 0 < number <= layout.count * layout.group_inodes or number in seen:
            continue
        seen.add(number)
        raw = _raw(layout, number)
        if number not in table.inodes and raw[0:2] != bytes(2):
            wrong = _checksums_wrong(layout, np.frombuffer(raw, np.uint8).reshape(1, -1), np.array([number]))
            table.inodes[number] = _parse(layout, number, raw, bool(wrong[0]))
        if keeper is None:
            # Without an orphan file the orphans are a chain: i_dtime of each holds the number of the next.
            pending.append(struct.unpack_from("<I", raw, 20)[0])


def _raw(layout: Layout, number: int) -> bytes:
    group, index = divmod(number - 1, layout.group_inodes)
    return layout.volume.read(
        int(layout.groups.inode_table[group]) * layout.block + index * layout.inode_bytes, layout.inode_bytes
    )


def journal_of(layout: Layout) -> Inode:
    """Returns the inode that holds the log. Raises `Malformed` if it can't be read, or the log lies on another device."""
    number = layout.values["journal"]
    if not number:
        raise Malformed("it was not unmounted, and its log lies on another device")
    group, index = divmod(number - 1, layout.group_inodes)
    found = list(_read_group(layout, group, index, 1)) if group < layout.count else []
    if not found or found[0].problem:
        raise Malformed("it was not unmounted, and its log can't be read")
    return found[0]


def _used_part(layout: Layout, group: int) -> int:
    """Returns how many inodes of a group's table have ever been used."""
    # The kernel keeps bg_itable_unused only where a checksum protects the descriptor (metadata_csum or gdt_csum).
    if layout.seed is None and not layout.ro_compat & _GROUP_CHECKSUMS:
        return layout.group_inodes
    if layout.groups.flags[group] & INODE_UNINIT:
        return 0
    return max(0, layout.group_inodes - int(layout.groups.unused_inodes[group]))


def _read_group(layout: Layout, group: int, index: int, count: int) -> Iterator[Inode]:
    """Yields the inodes in use among the `count` inodes of a group from index `index` on."""
    first = group * layout.group_inodes + index + 1
    start = int(layout.groups.inode_table[group]) * layout.block + index * layout.inode_bytes
    rows = np.frombuffer(layout.volume.read(start, count * layout.inode_bytes), np.uint8).reshape(count, layout.inode_bytes)
    links = rows[:, 26].astype(np.int64) | rows[:, 27].astype(np.int64) << 8
    # An inode without links is free or an orphan; a reserved one may have none and still be in use.
    reserved = np.arange(first, first + count) < layout.first_inode
    used = np.flatnonzero((links > 0) | (reserved & rows[:, 0:2].any(axis=1)))
    wrong = _checksums_wrong(layout, rows[used], used + first) if len(used) else np.empty(0, np.bool_)
    for row, bad in zip(used.tolist(), wrong.tolist(), strict=True):
        yield _parse(layout, first + row, rows[row].tobytes(), bad)


def _checksums_wrong(layout: Layout, rows: NDArray[np.uint8], numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    seed = layout.seed
    if seed is None:
        return np.zeros(len(rows), np.bool_)
    # The sum covers the inode's number, its generation (bytes 100 to 104) and itself, with both halves of the sum as zeros. The
    # upper half exists if i_extra_isize reaches behind it.
    rows = rows.copy()
    low = rows[:, 124].astype(np.uint32) | (rows[:, 125].astype(np.uint32) << np.uint32(8))
    high: NDArray[np.uint32] = np.zeros(len(rows), np.uint32)
    wide = np.zeros(len(rows), np.bool_)
    if layout.inode_bytes > 128:
        wide = (rows[:, 128].astype(np.int64) | rows[:, 129].astype(np.int64) << 8) >= 4
        high = rows[:, 130].astype(np.uint32) | (rows[:, 131].astype(np.uint32) << np.uint32(8))
        rows[wide, 130:132] = 0
    rows[:, 124:126] = 0
    heads = np.concatenate((numbers.astype("<u4").view(np.uint8).reshape(-1, 4), rows[:, 100:104]), axis=1)
    found = crc32c_rows(rows, crc32c_rows(heads, np.full(len(rows), seed, np.uint32)))
    stored = np.where(wide, low | high << np.uint32(16), low)
    wrong: NDArray[np.bool_] = np.where(wide, found, found & np.uint32(0xFFFF)) != stored
    return wrong


def _parse(layout: Layout, number: int, raw: bytes, bad: bool) -> Inode:
    # i_mode, i_size_lo; i_links_count; i_blocks_lo, i_flags; i_file_acl_lo, i_size_high; the upper halves of blocks and acl.
    mode, _, size = struct.unpack_from("<HHI", raw)
    (links,) = struct.unpack_from("<H", raw, 26)
    blocks, flags = struct.unpack_from("<II", raw, 28)
    attributes, size_high = struct.unpack_from("<II", raw, 104)
    blocks_high, attributes_high = struct.unpack_from("<HH", raw, 116)
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        size |= size_high << 32
    inode = Inode(number, mode, size, links, raw, attributes=attributes | (attributes_high << 32 if layout.wide else 0))
    if bad:
        inode.problem = "its checksum is wrong"
    elif _has_map(inode, flags):
        try:
            _Mapper(layout, inode).read(flags)
            if layout.cluster == 1 or number != RESIZE_INODE:
                inode.complaint = _miscounted(layout, inode, blocks | blocks_high << 32, flags)
        except (Malformed, struct.error) as error:
            inode.problem, inode.mapped, inode.own = str(error), [], []
    return inode


def _has_map(inode: Inode, flags: int) -> bool:
    kind = stat.S_IFMT(inode.mode)
    if flags & INLINE_DATA_FLAG:
        return False
    if kind == stat.S_IFLNK:
        return bool(flags & EXTENTS_FLAG) or inode.size >= 60
    return kind in (stat.S_IFREG, stat.S_IFDIR) or (kind == 0 and inode.number < 11)


def _miscounted(layout: Layout, inode: Inode, said: int, flags: int) -> str | None:
    """Compares an inode's count of blocks with its map. The count is in sectors of 512 bytes, or in blocks (huge_file); a wrong
    one makes no read fail."""
    pairs = [(block, block + count) for _, block, count, _ in inode.mapped] + [(block, block + 1) for block in inode.own]
    found = sum(end - start for start, end in pairs)
    if layout.cluster > 1:
        found = extents.total(layout.whole_clusters(extents.ranges(pairs)))
    found += (inode.attributes != 0) * layout.cluster
    agrees = said == (found if flags & HUGE_FILE_FLAG else found * (layout.block // 512))
    elsewhere = layout.incompat & EA_INODE and said > found  # it also counts the inodes that hold its large attributes
    return None if agrees or elsewhere else "the number of its blocks is not what its map holds"


class _Mapper:
    """Reads the block map of one inode."""

    def __init__(self, layout: Layout, inode: Inode):
        self._layout, self._inode = layout, inode

    def read(self, flags: int) -> None:
        root = self._inode.raw[40:100]
        if flags & EXTENTS_FLAG:
            self._extents(root, None, is_root=True)
        else:
            self._indirect(root)

    def _extents(self, node: bytes, expected_depth: int | None, *, is_root: bool = False) -> None:
        magic, entries, most, depth, _ = _HEADER.unpack_from(node)
        if magic != _EXTENT_MAGIC or depth > _DEEPEST or (expected_depth is not None and depth != expected_depth):
            raise Malformed("its extent tree is not one")
        if entries > most or 12 + 12 * most > len(node):
            raise Malformed("its extent tree counts more entries than fit")
        if not is_root:
            self._require_checksum(node, 12 + 12 * most)
        for at in range(12, 12 + 12 * entries, 12):
            if depth:
                _, low, high, _ = _INDEX.unpack_from(node, at)
                self._extents(self._block(low | high << 32), depth - 1)
            else:
                first, length, high, low = _LEAF.unpack_from(node, at)
                written = length <= _LONGEST_WRITTEN
                self._map(first, low | high << 32, length if written else length - _LONGEST_WRITTEN, written)

    def _require_checksum(self, node: bytes, end: int) -> None:
        seed = self._layout.seed
        if seed is not None:
            number = struct.pack("<I", self._inode.number) + self._inode.raw[100:104]
            if crc32c(node[:end], crc32c(number, seed)) != struct.unpack_from("<I", node, end)[0]:
                raise Malformed("the checksum of a block of its extent tree is wrong")

    def _indirect(self, root: bytes) -> None:
        pointers = struct.unpack("<15I", root)
        self._pointers(pointers[:12], 0)
        each, first = self._layout.block // 4, 12
        for level in (1, 2, 3):
            if pointers[11 + level]:
                self._level(pointers[11 + level], level, first)
            first += each**level

    def _level(self, block: int, level: int, first: int) -> None:
        pointers = struct.unpack(f"<{self._layout.block // 4}I", self._block(block))
        if level == 1:
            self._pointers(pointers, first)
            return
        step = len(pointers) ** (level - 1)
        for index, pointer in enumerate(pointers):
            if pointer:
                self._level(pointer, level - 1, first + index * step)

    def _pointers(self, pointers: tuple[int, ...], first: int) -> None:
        for index, pointer in enumerate(pointers):
            if pointer:
                self._map(first + index, pointer, 1, True)

    def _map(self, first: int, block: int, count: int, written: bool) -> None:
        if not 0 < block < block + count <= self._layout.blocks:
            raise Malformed("its map refers to blocks past the end")
        mapped = self._inode.mapped
        if (
            mapped
            and mapped[-1][3] == written
            and (mapped[-1][0] + mapped[-1][2], mapped[-1][1] + mapped[-1][2]) == (first, block)
        ):
            first, block, count = mapped[-1][0], mapped[-1][1], mapped[-1][2] + count
            mapped.pop()
        mapped.append((first, block, count, written))

    def _block(self, block: int) -> bytes:
        if not 0 < block < self._layout.blocks or block in self._inode.own[-64:]:
            raise Malformed("its map refers to blocks that can't be part of it")
        self._inode.own.append(block)
        if len(self._inode.own) > self._layout.blocks:
            raise Malformed("its map goes in circles")
        return self._layout.volume.read(block * self._layout.block, self._layout.block)


def checksum_of(layout: Layout, inode: Inode, data: bytes) -> int:
    """Returns the checksum that a block of `inode` with the content `data` must carry."""
    number = struct.pack("<I", inode.number) + inode.raw[100:104]
    return crc32c(data, crc32c(number, layout.seed if layout.seed is not None else START))
