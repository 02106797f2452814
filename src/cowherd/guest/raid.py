"""Linux software RAID (md): where the superblock of a member may lie, and where its data do.

Source: the kernel's include/uapi/linux/raid/md_p.h, and mdadm's super0.c and super1.c. Numbers are little-endian; the member of
a big-endian machine's array of version 0.90 is not recognised.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cowherd.guest.source import Volume

MAGIC = bytes.fromhex("fc4e2ba9")
_OLD_UNIT, _BYTES = 65536, 4096
_MIRRORED, _LINEAR = 1, -1


@dataclass(frozen=True)
class Member:
    """One member of an array: its `level`, and the (start, length) of its superblock and of its data in bytes of the volume.

    `is_plain` tells that the data are the array's own, from its first byte on: a mirror, or an array of one disk.
    """

    level: int
    is_plain: bool
    superblock: tuple[int, int]
    data: tuple[int, int]


def near_end(size: int) -> int:
    """Returns where version 1.0 has its superblock: 8 KiB or somewhat more before the end."""
    return (size // 512 - 16 & ~7) * 512


def old_place(size: int) -> int:
    """Returns where version 0.90 has its superblock: in the last but one block of 64 KiB, as far as they are whole."""
    return size // _OLD_UNIT * _OLD_UNIT - _OLD_UNIT


def is_superblock(volume: Volume, at: int) -> bool:
    """Returns whether the superblock at a byte of a volume is of a version that has it there, and of sound numbers."""
    return read_member(volume, at) is not None


def read_member(volume: Volume, at: int) -> Member | None:
    """Returns what the superblock at a byte of a volume says, None where it makes no sense."""
    if at + _BYTES > volume.size:
        return None
    block = volume.read(at, _BYTES)
    version = int.from_bytes(block[4:8], "little")
    if version == 0 and at == old_place(volume.size):
        level, disks = struct.unpack_from("<i8xI", block, 28)
        return Member(level, _is_plain(level, disks), (at, _BYTES), (0, at))
    if version != 1 or struct.unpack_from("<Q", block, 144)[0] * 512 != at:
        return None
    level, disks = struct.unpack_from("<i16xI", block, 72)
    start, length = (512 * number for number in struct.unpack_from("<QQ", block, 128))
    if start >= volume.size:
        return None
    return Member(level, _is_plain(level, disks), (at, _BYTES), (start, min(length, volume.size - start)))


def _is_plain(level: int, disks: int) -> bool:
    return level == _MIRRORED or (level in (0, _LINEAR) and disks == 1)
