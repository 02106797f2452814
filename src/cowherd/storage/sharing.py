"""Tells how much of a file shares its blocks with other files, as reflink copies do, from the file system's map of its extents.

Source: Documentation/filesystems/fiemap.rst and include/uapi/linux/fiemap.h of Linux.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct

from cowherd.storage.identity import open_unnoticed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cowherd.paths import PathName

_FS_IOC_FIEMAP = 0xC020660B
_HEAD = struct.Struct("=QQIIII")  # start, length, flags, mapped extents, room for extents, reserved
_EXTENT = struct.Struct("=QQQ16xI12x")  # offset in the file, on the disk, length, flags
_LAST, _SHARED = 0x1, 0x2000
_AT_ONCE = 512
_MOST_CALLS = 64
_WHOLE = (1 << 64) - 1


def shared_bytes(path: PathName) -> int | None:
    """Returns the bytes of a file whose blocks it shares with other files, or with another place in itself.

    Returns None where that can't be told soon: the file is no regular one, may not be read, lies on a file system without such a
    map, or has more than 32,768 extents. Reads no data.
    """
    try:
        fd = open_unnoticed(path)
    except OSError:
        return None
    try:
        return _sum_of_shared(fd) if stat.S_ISREG(os.fstat(fd).st_mode) else None
    except OSError:  # above all EOPNOTSUPP
        return None
    finally:
        os.close(fd)


def _sum_of_shared(fd: int) -> int | None:
    start = total = 0
    for _ in range(_MOST_CALLS):
        found = list(_extents_from(fd, start))
        total += sum(length for _, length, flags in found if flags & _SHARED)
        if not found or found[-1][2] & _LAST:
            return total
        start = found[-1][0] + found[-1][1]
    return None


def _extents_from(fd: int, start: int) -> Iterator[tuple[int, int, int]]:
    """Yields the next extents of a file: offset, length in bytes, flags."""
    answer = bytearray(_HEAD.pack(start, _WHOLE - start, 0, 0, _AT_ONCE, 0) + bytes(_EXTENT.size * _AT_ONCE))
    fcntl.ioctl(fd, _FS_IOC_FIEMAP, answer)
    mapped = _HEAD.unpack_from(answer)[3]
    for number in range(min(mapped, _AT_ONCE)):
        offset, _, length, flags = _EXTENT.unpack_from(answer, _HEAD.size + number * _EXTENT.size)
        yield offset, length, flags
