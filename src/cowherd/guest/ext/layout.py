"""ext2, ext3 and ext4: the superblock and the group descriptors, and the places of all fixed structures.

Source: the kernel's Documentation/filesystems/ext4 (ondisk), e2fsprogs' lib/ext2fs/ext2_fs.h. All numbers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cowherd import extents
from cowherd.extents import Ranges
from cowherd.guest.crc import crc32c
from cowherd.guest.owners import set_bits
from cowherd.guest.source import Malformed, Volume

SUPERBLOCK, SUPERBLOCK_BYTES, MAGIC = 1024, 1024, 0xEF53
ROOT_INODE, RESIZE_INODE, JOURNAL_INODE = 2, 7, 8

HAS_JOURNAL, SPARSE_SUPER2, ORPHAN_FILE = 0x4, 0x200, 0x1000
FILETYPE, RECOVER, META_BG, EXTENTS, BITS64, CSUM_SEED, INLINE_DATA = 0x2, 0x4, 0x10, 0x40, 0x80, 0x2000, 0x8000
EA_INODE = 0x400
# Multiple mount protection (0x100), flexible groups (0x200), large directories (0x4000), encryption (0x10000) and case folding
# (0x20000) change nothing in the structures that are read here.
_READABLE = FILETYPE | RECOVER | META_BG | EXTENTS | BITS64 | 0x100 | 0x200 | EA_INODE | CSUM_SEED | 0x4000 | INLINE_DATA
_READABLE |= 0x10000 | 0x20000
_UNREADABLE_NAMES = {0x8: "journal device", 0x1: "compression"}
SPARSE_SUPER, BIGALLOC, METADATA_CSUM = 0x1, 0x200, 0x400

INODE_UNINIT, BLOCK_UNINIT = 1, 2

_FIELDS = {  # name: (offset in the superblock, struct code)
    "inodes": (0, "I"),
    "blocks_lo": (4, "I"),
    "free_blocks_lo": (12, "I"),
    "free_inodes": (16, "I"),
    "first_block": (20, "I"),
    "log_block": (24, "I"),
    "group_blocks": (32, "I"),
    "group_inodes": (40, "I"),
    "magic": (56, "H"),
    "revision": (76, "I"),
    "first_inode": (84, "I"),
    "inode_bytes": (88, "H"),
    "compat": (92, "I"),
    "incompat": (96, "I"),
    "ro_compat": (100, "I"),
    "log_cluster": (28, "I"),
    "group_clusters": (36, "I"),
    "reserved_gdt": (206, "H"),
    "journal": (224, "I"),
    "last_orphan": (232, "I"),
    "first_meta_group": (260, "I"),
    "descriptor_bytes": (254, "H"),
    "blocks_hi": (336, "I"),
    "free_blocks_hi": (344, "I"),
    "backup_1": (588, "I"),
    "backup_2": (592, "I"),
    "checksum_seed": (624, "I"),
    "orphan_file": (640, "I"),
    "checksum": (1020, "I"),
}


@dataclass(frozen=True, eq=False)
class Groups:
    """The group descriptors, an array of each field."""

    raw: NDArray[np.uint8]
    block_bitmap: NDArray[np.int64]
    inode_bitmap: NDArray[np.int64]
    inode_table: NDArray[np.int64]
    free_blocks: NDArray[np.int64]
    free_inodes: NDArray[np.int64]
    directories: NDArray[np.int64]
    unused_inodes: NDArray[np.int64]
    flags: NDArray[np.int64]


class Layout:
    """The numbers of one file system, each checked before it is used to read or to allocate."""

    def __init__(self, volume: Volume, *, is_replayed: bool = False):
        """Raises `Malformed` if there is no such file system, or one with features that are not known here."""
        self.volume, self.is_replayed = volume, is_replayed
        self.superblock = volume.read(SUPERBLOCK, SUPERBLOCK_BYTES)
        values: dict[str, int] = {
            name: struct.unpack_from("<" + code, self.superblock, at)[0] for name, (at, code) in _FIELDS.items()
        }
        if values["magic"] != MAGIC:
            raise Malformed("no ext file system")
        self.values = values
        self.compat, self.incompat, self.ro_compat = values["compat"], values["incompat"], values["ro_compat"]
        if values["revision"] == 0:
            self.compat = self.incompat = self.ro_compat = 0
        self._take_sizes()
        self.groups = self._read_groups()

    def _take_sizes(self) -> None:
        values = self.values
        unreadable = self.incompat & ~_READABLE
        if unreadable:
            names = [name for bit, name in _UNREADABLE_NAMES.items() if unreadable & bit]
            raise Malformed(f"it has features that are not read here: {', '.join(names) or 'newer ones'}")
        self.block = 1024 << min(values["log_block"], 7)
        self.wide = bool(self.incompat & BITS64)
        self.blocks = values["blocks_lo"] | (values["blocks_hi"] << 32 if self.wide else 0)
        self.free_blocks = values["free_blocks_lo"] | (values["free_blocks_hi"] << 32 if self.wide else 0)
        self.inode_bytes: int = values["inode_bytes"] if values["revision"] else 128
        self.first_inode = values["first_inode"] if values["revision"] else 11
        self.descriptor = max(values["descriptor_bytes"], 32) if self.wide else 32
        self.first_block: int = values["first_block"]
        self.group_blocks: int = values["group_blocks"]
        big = bool(self.ro_compat & BIGALLOC) and values["log_block"] <= values["log_cluster"] <= 20
        self.cluster: int = 1 << values["log_cluster"] - values["log_block"] if big else 1
        self.group_inodes: int = values["group_inodes"]
        sane = (
            values["log_block"] <= 6
            # With blocks of 1 KiB, the superblock is block 1 and the first group begins with it; clusters begin at block 0.
            and self.first_block == (1 if self.block == 1024 and self.cluster == 1 else 0)
            and 8 <= self.group_blocks <= self.block * 8 * self.cluster
            and self.group_blocks % self.cluster == 0
            and (not self.ro_compat & BIGALLOC or self.group_blocks == values["group_clusters"] * self.cluster)
            and 8 <= self.group_inodes <= self.block * 8
            and 128 <= self.inode_bytes <= self.block
            and self.inode_bytes & (self.inode_bytes - 1) == 0
            and self.descriptor in (32, 64, 128, 256, 512, 1024)
            and self.first_block < self.blocks <= self.volume.size // self.block
        )
        if not sane:
            raise Malformed("its superblock's numbers contradict each other or the size of the volume")
        self.count = -(-(self.blocks - self.first_block) // self.group_blocks)
        if values["inodes"] != self.count * self.group_inodes:
            raise Malformed("its superblock's numbers of inodes and groups contradict each other")

    @property
    def name(self) -> str:
        """ext2, ext3 or ext4."""
        if self.incompat & (EXTENTS | BITS64) or self.ro_compat & METADATA_CSUM:
            return "ext4"
        return "ext3" if self.compat & HAS_JOURNAL else "ext2"

    @property
    def needs_recovery(self) -> bool:
        """Whether its log must be replayed before the rest is true."""
        return bool(self.incompat & RECOVER) and not self.is_replayed

    @property
    def orphan_file(self) -> int:
        """The inode that lists the inodes that are open and have no name, 0 if there is none."""
        return self.values["orphan_file"] if self.compat & ORPHAN_FILE else 0

    @property
    def seed(self) -> int | None:
        """The number with which its checksums start, None if it has no checksums."""
        if not self.ro_compat & METADATA_CSUM:
            return None
        if self.incompat & CSUM_SEED:
            return int(self.values["checksum_seed"])
        return crc32c(self.superblock[104:120])  # s_uuid; tune2fs -U keeps the old seed in s_checksum_seed instead

    def _read_groups(self) -> Groups:
        data = b"".join(self.volume.read(block * self.block, self.block) for block in self._descriptor_blocks())
        raw = np.frombuffer(data, np.uint8, self.count * self.descriptor).reshape(self.count, self.descriptor)

        def field(low: int, high: int, width: int) -> NDArray[np.int64]:
            value = raw[:, low : low + width].copy().view(f"<u{width}")[:, 0].astype(np.int64)
            if self.descriptor >= 64 and high:
                value |= raw[:, high : high + width].copy().view(f"<u{width}")[:, 0].astype(np.int64) << (8 * width)
            return value

        places = [field(low, low + 32, 4) for low in (0, 4, 8)]
        if any(((place < 0) | (place >= self.blocks)).any() for place in places):
            raise Malformed("a group descriptor refers to blocks past the end")
        counts = [field(low, high, 2) for low, high in ((12, 44), (14, 46), (16, 48), (28, 50), (18, 0))]
        return Groups(raw, places[0], places[1], places[2], counts[0], counts[1], counts[2], counts[3], counts[4])

    @property
    def _old_descriptor_blocks(self) -> int:
        """The number of descriptor blocks after the superblock; with meta_bg, the rest lie in the groups that they describe."""
        count = -(-self.count * self.descriptor // self.block)
        return min(count, self.values["first_meta_group"]) if self.incompat & META_BG else count

    def _descriptor_blocks(self) -> Iterator[int]:
        """Yields the blocks that hold the descriptors, in order."""
        # With meta_bg a block of descriptors lies in the first group that it describes, behind the copy of the superblock if the
        # group has one (ext4_group_desc descriptor_loc in fs/ext4/super.c).
        start, each = self.superblock_block + 1, self.block // self.descriptor
        for index in range(-(-self.count // each)):
            group = index * each
            old = index < self._old_descriptor_blocks
            yield (
                start + index
                if old
                else self.group_start(group) + self.has_backup(group) + (self.superblock_block > self.first_block and group == 0)
            )

    @property
    def superblock_block(self) -> int:
        """The block that holds the superblock: block 0, or with blocks of 1 KiB block 1."""
        return 1 if self.block == 1024 else 0

    def group_start(self, group: int) -> int:
        """Returns the first block of a group."""
        return self.first_block + group * self.group_blocks

    def group_length(self, group: int) -> int:
        """Returns the number of blocks in a group; the last may have fewer than the others."""
        return min(self.group_blocks, self.blocks - self.group_start(group))

    @property
    def table_blocks(self) -> int:
        """Blocks of one group's inode table."""
        return -(-self.group_inodes * self.inode_bytes // self.block)

    def has_backup(self, group: int) -> bool:
        """Returns whether a group holds a copy of the superblock (group 0: the superblock)."""
        if self.compat & SPARSE_SUPER2:
            return group in (0, self.values["backup_1"], self.values["backup_2"])
        if not self.ro_compat & SPARSE_SUPER or group < 2:
            return True
        return any(_is_power(group, base) for base in (3, 5, 7))

    def areas(self) -> Iterator[tuple[str, Ranges]]:
        """Yields the fixed structures as ranges of block numbers, by name."""
        old = self._old_descriptor_blocks
        reserved = self.values["reserved_gdt"] if self.compat & 0x10 else 0
        starts = np.array([self.group_start(group) for group in range(self.count) if self.has_backup(group)], np.int64)
        starts[:1] = self.superblock_block
        yield "superblock", _blocks(starts[:1], 1)
        if self.superblock_block == 1:
            yield "boot block", _blocks(np.zeros(1, np.int64), 1)
        yield "group descriptors", _blocks(np.array(list(self._descriptor_blocks()), np.int64), 1)
        if reserved:
            yield "reserved descriptors", _blocks(starts + 1 + old, reserved)
        if len(starts) > 1:
            yield "backup superblocks", _blocks(starts[1:], 1 + old)
        if self.incompat & META_BG:
            yield "backup descriptors", _blocks(np.array(list(self._backup_descriptors()), np.int64), 1)
        yield "block bitmap", _blocks(self.groups.block_bitmap, 1)
        yield "inode bitmap", _blocks(self.groups.inode_bitmap, 1)
        yield "inode table", _blocks(self.groups.inode_table, self.table_blocks)

    def _backup_descriptors(self) -> Iterator[int]:
        """Yields the blocks with copies of descriptors (meta_bg): in the second and the last group that a block describes."""
        each = self.block // self.descriptor
        for first in range(self._old_descriptor_blocks * each, self.count, each):
            for group in (first + 1, first + each - 1):
                if group < self.count:
                    yield self.group_start(group) + self.has_backup(group)

    def bitmap(self, group: int, block: int, bits: int) -> NDArray[np.bool_]:
        """Returns the first `bits` bits of a group's bitmap at `block`."""
        data = np.frombuffer(self.volume.read(int(block) * self.block, -(-bits // 8)), np.uint8)
        return np.unpackbits(data, bitorder="little")[:bits].astype(np.bool_)

    def group_clusters(self, group: int) -> int:
        """Returns the number of clusters in a group, which its bitmap has bits for. Without bigalloc a cluster is a block."""
        return -(-self.group_length(group) // self.cluster)

    def whole_clusters(self, blocks: Ranges) -> Ranges:
        """Returns ranges of blocks widened to whole clusters."""
        if self.cluster == 1:
            return blocks
        return extents.aligned(blocks - self.first_block, self.cluster, self.blocks - self.first_block) + self.first_block

    def used_blocks(self) -> Ranges:
        """Returns the block numbers in use by the bitmaps; in a group without a bitmap, only the fixed structures are in use."""
        parts = [np.empty((0, 2), np.int64)]
        for group in range(self.count):
            if not self.groups.flags[group] & BLOCK_UNINIT:
                used = self.bitmap(group, int(self.groups.block_bitmap[group]), self.group_clusters(group))
                clusters = np.minimum(set_bits(used) * self.cluster, self.group_length(group))
                parts.append(clusters + self.group_start(group))
            else:
                own = extents.intersect(self.fixed, extents.ranges([self._bounds(group)]))
                parts.append(self.whole_clusters(own))
        return extents.normalised(np.concatenate(parts))

    @property
    def fixed(self) -> Ranges:
        """The block numbers of all fixed structures."""
        return extents.normalised(np.concatenate([area for _, area in self.areas()]))

    def _bounds(self, group: int) -> tuple[int, int]:
        start = self.group_start(group)
        return start, start + self.group_length(group)


def _blocks(starts: NDArray[np.int64], count: int) -> Ranges:
    return extents.normalised(np.column_stack((starts, starts + count)))


def _is_power(number: int, base: int) -> bool:
    while number % base == 0:
        number //= base
    return number == 1
