"""XFS: the superblock, and from it the places of groups, blocks and inodes.

Source: XFS Algorithms & Data Structures, 3rd edition; the kernel's fs/xfs/libxfs/xfs_format.h. All numbers are big-endian but
checksums. Block numbers here count from the start of the volume; XFS's own have the group's number in their upper bits.
"""

from __future__ import annotations

import struct
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from cowherd.guest.source import Malformed, Volume

Numbers = NDArray[np.int64]
Rows = NDArray[np.uint8]
"""An array of shape (n, length): n blocks or records, byte for byte."""

MAGIC = b"XFSB"
ATTRIBUTES, MORE_BITS, LOWER_CASE = 0x0010, 0x8000, 0x4000
LAZY_COUNTS, FTYPE2 = 0x2, 0x200
FINOBT, RMAPBT, REFLINK, BTREE_COUNTS = 0x1, 0x2, 0x4, 0x8
FTYPE, SPARSE_INODES, META_UUID, BIG_TIME, NEEDS_REPAIR, LARGE_COUNTS, EXCHANGE, PARENT = (1 << bit for bit in range(8))
_READABLE = FTYPE | SPARSE_INODES | META_UUID | BIG_TIME | NEEDS_REPAIR | LARGE_COUNTS | EXCHANGE | PARENT
_RO_READABLE = FINOBT | RMAPBT | REFLINK | BTREE_COUNTS
_MOST_NAMED = 20

_FIELDS = {  # name: (offset, struct code)
    "block": (4, "I"), "blocks": (8, "Q"), "realtime_blocks": (16, "Q"), "log_start": (48, "Q"), "root": (56, "Q"),
    "realtime_bitmap": (64, "Q"), "realtime_summary": (72, "Q"), "group_blocks": (84, "I"), "groups": (88, "I"),
    "log_blocks": (96, "I"), "version": (100, "H"), "sector": (102, "H"), "inode_bytes": (104, "H"), "per_block": (106, "H"),
    "block_log": (120, "B"), "inode_log": (122, "B"), "per_block_log": (123, "B"), "group_log": (124, "B"),
    "in_progress": (126, "B"), "inodes": (128, "Q"), "free_inodes": (136, "Q"), "free_blocks": (144, "Q"),
    "user_quota": (160, "Q"), "group_quota": (168, "Q"), "directory_log": (192, "B"), "features2": (200, "I"),
    "ro_compat": (212, "I"), "incompat": (216, "I"), "checksum": (224, "I"), "project_quota": (232, "Q"), "lsn": (240, "Q"),
}  # fmt: skip
GEOMETRY = ("block", "blocks", "group_blocks", "groups", "log_start", "log_blocks", "sector", "inode_bytes", "directory_log")
"""The fields that must be equal in every copy of the superblock."""


class Complaints:
    """Contradictions between structures, at most twenty of each kind."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self._kinds: Counter[str] = Counter()

    def say(self, kind: str, text: str) -> None:
        """Adds a sentence, unless there are enough of its kind."""
        self._kinds[kind] += 1
        if self._kinds[kind] <= _MOST_NAMED:
            self.said.append(text)


class Layout:
    """The numbers of one file system, each checked before it is used to read or to allocate."""

    def __init__(self, volume: Volume):
        """Raises `Malformed` if there is no such file system, or one with features that are not known here."""
        self.volume, self.complaints = volume, Complaints()
        self.newest = 0
        """The latest log sequence number that any structure read so far carries."""
        self.values = values = fields_of(volume.read(0, 512))
        if volume.read(0, 4) != MAGIC or values["version"] & 15 not in (4, 5):
            raise Malformed("no XFS, or one of a version that is not read here")
        self.crcs = values["version"] & 15 == 5
        self.incompat = values["incompat"] if self.crcs else 0
        self.ro_compat = values["ro_compat"] if self.crcs else 0
        if self.incompat & ~_READABLE or self.ro_compat & ~_RO_READABLE:
            raise Malformed("it has features that are not read here")
        self.block, self.sector = values["block"], values["sector"]
        self.blocks, self.group_blocks, self.groups = values["blocks"], values["group_blocks"], values["groups"]
        self.inode_bytes, self.per_block = values["inode_bytes"], values["per_block"]
        self.group_log, self.per_block_log = values["group_log"], values["per_block_log"]
        self.directory_log = values["directory_log"]
        self._require_sense()
        self.superblock = volume.read(0, self.sector)
        self.uuid = self.superblock[248:264] if self.incompat & META_UUID else self.superblock[32:48]
        features2 = values["features2"] if values["version"] & MORE_BITS else 0
        self.has_types = bool(self.incompat & FTYPE or (not self.crcs and features2 & FTYPE2))
        self.lazy_counts = bool(self.crcs or features2 & LAZY_COUNTS)
        self.lower_case = bool(values["version"] & LOWER_CASE)

    def _require_sense(self) -> None:
        values, blocks = self.values, self.blocks
        sane = (
            9 <= values["block_log"] <= 16
            and self.block == 1 << values["block_log"]
            and self.sector in (512, 1024, 2048, 4096, 8192, 16384, 32768)
            and self.sector <= self.block
            and 8 <= values["inode_log"] <= 11
            and self.inode_bytes == 1 << values["inode_log"] <= self.block
            and self.per_block == 1 << self.per_block_log == self.block // self.inode_bytes
            and self.group_blocks >= 64
            and self.group_log == (self.group_blocks - 1).bit_length() <= 31  # sb_agblklog: bits of a block's number in its group
            and (self.groups - 1) * self.group_blocks < blocks <= self.groups * self.group_blocks
            and blocks <= self.volume.size // self.block
            and values["block_log"] + self.directory_log <= 16
            and not values["in_progress"]
            and self.sector * 4 <= self.group_blocks * self.block
        )
        if not sane:
            raise Malformed("its superblock's numbers contradict each other or the size of the volume")
        start = int(self.to_blocks(np.array([min(values["log_start"], 1 << 62)], np.int64))[0]) if values["log_start"] else 0
        self.log = (start, start + values["log_blocks"])
        if values["log_start"] and not 0 < start < self.log[1] <= blocks:
            raise Malformed("its superblock says that its log lies past the end")

    @property
    def name(self) -> str:
        """XFS with its version."""
        return f"XFS {5 if self.crcs else 4}"

    @property
    def directory_block(self) -> int:
        """Bytes of a block of a directory."""
        return self.block << self.directory_log

    @property
    def quota_inodes(self) -> set[int]:
        """The inodes that hold quotas."""
        named = {self.values[name] for name in ("user_quota", "group_quota", "project_quota")}
        return named - {0, (1 << 64) - 1}

    def group_length(self, group: int) -> int:
        """Returns the number of blocks in a group; the last may have fewer than the others."""
        return min(self.group_blocks, self.blocks - group * self.group_blocks)

    def to_blocks(self, numbers: Numbers) -> Numbers:
        """Returns XFS's block numbers as blocks of the volume, -1 for numbers that no block can have."""
        # The group's number stands above sb_agblklog bits. Groups need not have a power of two of blocks, so numbers have gaps.
        group, within = numbers >> self.group_log, numbers & ((1 << self.group_log) - 1)
        found = group * self.group_blocks + within
        good = (numbers >= 0) & (group < self.groups) & (within < self.group_blocks) & (found < self.blocks)
        return np.where(good, found, -1)

    def inode_places(self, numbers: Numbers) -> Numbers:
        """Returns the byte of the volume at which each inode lies, -1 for numbers that no inode can have."""
        block = self.to_blocks(numbers >> self.per_block_log)
        return np.where(block < 0, -1, block * self.block + (numbers & (self.per_block - 1)) * self.inode_bytes)

    def rows(self, blocks: Numbers, count: int = 1) -> Rows:
        """Returns the bytes of `count` blocks from each of `blocks` on, one row for each."""
        length = self.block * count
        data = b"".join(self.volume.read(block * self.block, length) for block in blocks.tolist())
        return np.frombuffer(data, np.uint8).reshape(len(blocks), length)


def fields_of(sector: bytes) -> dict[str, int]:
    """Returns the numbers of a superblock by name."""
    values: dict[str, int] = {name: struct.unpack_from(">" + code, sector, at)[0] for name, (at, code) in _FIELDS.items()}
    return values


def number(rows: Rows, at: int, width: int) -> Numbers:
    """Returns the big-endian number of `width` bytes at byte `at` of each row; one that exceeds 63 bits becomes negative."""
    return np.ascontiguousarray(rows[:, at : at + width]).view(f">u{width}")[:, 0].astype(np.int64)
