"""Linux software RAID (md): where the superblock of a member may lie, and where its data lie.

Source: the kernel's include/uapi/linux/raid/md_p.h, and mdadm's super0.c and super1.c. Numbers are little-endian. Version 0.90
is in the byte order of the machine that made it; members of a big-endian machine's array are not recognised.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cowherd.guest.source import Volume

MAGIC = bytes.fromhex("fc4e2ba9")
_OLD_UNIT, _SUPERBLOCK_BYTES = 65536, 4096
_MIRRORED, _LINEAR = 1, -1


@dataclass(frozen=True)
class Member:
    """One member of an array: its `level`, and the (start, length) of its superblock and of its data in bytes of the volume.

    `is_plain` means that the data read as the array itself does, from its first byte on: a mirror, or an array of one disk.
    """

    level: int
    is_plain: bool
    superblock: tuple[int, int]
    data: tuple[int, int]


def near_end(size: int) -> int:
    """Returns where version 1.0 has its superblock: at least 8 KiB before the end, at a multiple of 4 KiB (super1.c)."""
    return (size // 512 - 16 & ~7) * 512


def old_place(size: int) -> int:
    """Returns where version 0.90 has its superblock: at the last whole block of 64 KiB (MD_NEW_SIZE_SECTORS in md_p.h)."""
    return size // _OLD_UNIT * _OLD_UNIT - _OLD_UNIT


def is_superblock(volume: Volume, at: int) -> bool:
    """Returns whether the superblock at a byte of a volume has sound numbers, and is of a version that puts it there."""
    return read_member(volume, at) is not None


def read_member(volume: Volume, at: int) -> Member | None:
    """Returns what the superblock at a byte of a volume says, None if it makes no sense."""
    if at + _SUPERBLOCK_BYTES > volume.size:
        return None
    block = volume.read(at, _SUPERBLOCK_BYTES)
    version = int.from_bytes(block[4:8], "little")
    if version == 0 and at == old_place(volume.size):
        level, disks = struct.unpack_from("<i8xI", block, 28)
        return Member(level, _is_plain(level, disks), (at, _SUPERBLOCK_BYTES), (0, at))
    # super_offset names the superblock's own place: one that lies elsewhere was copied, or left by an array of another size.
    if version != 1 or struct.unpack_from("<Q", block, 144)[0] * 512 != at:
        return None
    level, disks = struct.unpack_from("<i16xI", block, 72)
    start, length = (512 * number for number in struct.unpack_from("<QQ", block, 128))  # data_offset, data_size: in sectors
    if start >= volume.size:
        return None
    return Member(level, _is_plain(level, disks), (at, _SUPERBLOCK_BYTES), (start, min(length, volume.size - start)))


def _is_plain(level: int, disks: int) -> bool:
    return level == _MIRRORED or (level in (0, _LINEAR) and disks == 1)
