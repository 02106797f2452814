"""Copies bytes between host files with the best means that the host offers: shared blocks, copies in the kernel, plain I/O."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from bisect import bisect_left, bisect_right
from itertools import accumulate

from cowherd.errors import HostFileError, InvalidRequest, ReadOnlyImage
from cowherd.paths import directory_of
from cowherd.storage.atomic import replacement
from cowherd.storage.attributes import Attributes
from cowherd.storage.hostfile import HostFile
from cowherd.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cowherd.storage.blocks import BlockFile

_FICLONE = 0x40049409
_FICLONERANGE = 0x4020940D
_FILE_CLONE_RANGE = struct.Struct("=qQQQ")
# EINVAL also says that a range does not consist of whole blocks, EXDEV that the files lie on two file systems.
_CANT_CLONE = (errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EXDEV, errno.EINVAL)

_KERNEL_CHUNK = 64 << 20  # per system call, so that Ctrl-C is answered soon
_PLAIN_CHUNK = 4 << 20


class FileRange:
    """Bytes [`offset`, `offset` + `length`) of a host file, to copy into another one without passing through this process.

    As with a memoryview, `len` is the number of bytes and a slice is a part of the range. With `shares`, both files share the
    blocks if both places consist of whole ones.
    """

    __slots__ = ("file", "length", "offset", "shares")

    def __init__(self, file: HostFile, offset: int, length: int, *, shares: bool):
        self.file, self.offset, self.length, self.shares = file, offset, length, shares

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, part: slice) -> FileRange:
        start, stop, _ = part.indices(self.length)
        return FileRange(self.file, self.offset + start, max(0, stop - start), shares=self.shares)

    def put(self, target: BlockFile, offset: int) -> None:
        """Makes `target` hold these bytes from `offset` on. Raises `HostFileError`."""
        host = target.host
        if host is None:
            _copy_plainly(self.file, self.offset, target, offset, self.length)
        elif not (self.shares and clone_range(self.file, self.offset, host, offset, self.length)):
            copy_range(self.file, self.offset, host, offset, self.length)


class FileRanges:
    """Ranges of host files, one behind the other, used as one: `len` is the number of bytes, a slice is a part of them."""

    __slots__ = ("_ends", "ranges")

    def __init__(self, ranges: Sequence[FileRange]):
        self.ranges = ranges
        self._ends = list(accumulate(map(len, ranges)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, part: slice) -> FileRanges:
        start, stop, _ = part.indices(len(self))
        first, last = bisect_right(self._ends, start), bisect_left(self._ends, stop)
        found = []
        for index in range(first, last + 1) if start < stop else ():
            end = self._ends[index]
            begin = end - len(self.ranges[index])
            found.append(self.ranges[index][max(start - begin, 0) : min(stop, end) - begin])
        return FileRanges(found)

    def put(self, target: BlockFile, offset: int) -> None:
        """Makes `target` hold these bytes from `offset` on. Raises `HostFileError`."""
        for part in self.ranges:
            part.put(target, offset)
            offset += len(part)

    def readinto(self, start: int, buffer: memoryview) -> None:
        """Fills `buffer` with the bytes of the ranges from byte `start` on. Raises `HostFileError`."""
        done = 0
        for part in self[start : start + len(buffer)].ranges:
            part.file.preadinto(part.offset, buffer[done : done + len(part)])
            done += len(part)

    def words(self, step: int) -> bytes:
        """Returns the 8 bytes at each multiple of `step`, joined. `step` is a multiple of 8, and divides all ranges but the last.

        Raises `HostFileError`.
        """
        found: list[bytes] = []
        for part in self.ranges:
            found += part.file.pread_each(range(part.offset, part.offset + len(part), step), 8)
        return b"".join(found)


Bytes = memoryview | FileRange
"""The data of a guest write: bytes in memory, or in another file."""


def put(target: BlockFile, offset: int, data: Bytes | FileRanges) -> None:
    """Writes `data` at `offset` of `target`. Raises `HostFileError`."""
    if isinstance(data, FileRange | FileRanges):
        data.put(target, offset)
    else:
        target.pwrite(offset, data)


class _CannotClone(Exception):
    """Leaves the block of `replacement` when the file system can't clone, so that the unfinished file vanishes."""


def clone_range(source: HostFile, source_offset: int, target: HostFile, target_offset: int, length: int) -> bool:
    """Makes a range of `target` share the blocks of a range of `source` (reflink). No bytes move; later writes separate them.

    Returns False, with nothing changed, if the file system can't: it has no reflink, the files lie on different ones, or the
    range does not consist of whole blocks (it may end at the end of `source`). Raises `HostFileError` if it fails otherwise, as
    on a full disk.
    """
    if not target.writable:
        raise ReadOnlyImage(target.path)
    if length <= 0:  # to the kernel, 0 means everything up to the end
        return True
    return _ioctl_clones(target, _FICLONERANGE, _FILE_CLONE_RANGE.pack(source.fd, source_offset, length, target_offset))


def can_clone(source: HostFile, target: HostFile) -> bool:
    """Returns whether `clone_range` works from `source` into files beside `target`: it clones one block into a nameless file.

    Raises `HostFileError` if no such file can be made for another reason than that the host has none.
    """
    block = clone_alignment(target)
    if source.device != target.device or source.is_block_device or target.is_block_device or source.size() < block:
        return False
    directory = directory_of(target.path)
    try:
        fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in (*_CANT_CLONE, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS):
            return False
        raise HostFileError(directory, "make a nameless file in", error) from error
    with HostFile(target.name, fd, writable=True) as nameless:
        return clone_range(source, 0, nameless, 0, block)


def clone_alignment(target: HostFile) -> int:
    """Returns the size in bytes of the blocks of which a cloned range must consist."""
    return os.fstat(target.fd).st_blksize


def clone_file(source: Path, target: Path) -> bool:
    """Makes `target` a file that shares every block of `source` (reflink), durably, with the same owner and rights.

    An existing `target` is replaced at once and whole. Returns False, with nothing left behind, if the file system can't clone.
    Raises `HostFileError` if it fails otherwise. Takes no locks.
    """
    with HostFile.open(source, lock=None) as original:
        try:
            with replacement(target, like=Attributes.of(original.fd)) as clone:
                if not _ioctl_clones(clone, _FICLONE, original.fd):
                    raise _CannotClone
        except _CannotClone:
            return False
    return True


def has_copies_of_its_own(target: HostFile) -> bool:
    """Returns whether the file system of `target` may copy bytes within itself by better means than to read and write them.

    One on a block device does just that, in turn and in one thread, while this process reads and writes at once.
    """
    return not os.major(target.device)


def copy_range(source: HostFile, source_offset: int, target: HostFile, target_offset: int, length: int) -> None:
    """Copies `length` bytes; bytes past the end of `source` count as zeros. Holes may become allocated blocks.

    Inside one file the ranges must not overlap (`InvalidRequest`). Raises `HostFileError`; a part may be copied then.
    """
    if not target.writable:
        raise ReadOnlyImage(target.path)
    if (source.device, source.inode) == (target.device, target.inode) and abs(source_offset - target_offset) < length:
        raise InvalidRequest(f"{printable(source.path)}: can't copy a range over itself")
    target.require_trusted()
    done = _copy_in_kernel(source, source_offset, target, target_offset, length)
    _copy_plainly(source, source_offset + done, target, target_offset + done, length - done)


def _ioctl_clones(target: HostFile, request: int, argument: bytes | int) -> bool:
    target.require_trusted()
    try:
        fcntl.ioctl(target.fd, request, argument)
    except OSError as error:
        if error.errno in _CANT_CLONE:
            return False
        raise HostFileError(target.path, "clone blocks into", error) from error
    return True


def _copy_in_kernel(source: HostFile, source_offset: int, target: HostFile, target_offset: int, length: int) -> int:
    """Returns how many bytes the kernel copied; it stops early at the end of `source` and at any error.

    An error does not say which of the two files is at fault; the plain reads and writes that go on from there do.
    """
    done = 0
    while done < length:
        chunk = min(length - done, _KERNEL_CHUNK)
        try:
            count = os.copy_file_range(source.fd, target.fd, chunk, source_offset + done, target_offset + done)
        except OSError:
            break
        if not count:
            break
        done += count
    return done


def _copy_plainly(source: HostFile, source_offset: int, target: BlockFile, target_offset: int, length: int) -> None:
    buffer = memoryview(bytearray(min(length, _PLAIN_CHUNK)))
    done = 0
    while done < length:
        chunk = buffer[: min(length - done, _PLAIN_CHUNK)]
        source.preadinto(source_offset + done, chunk)
        target.pwrite(target_offset + done, chunk)
        done += len(chunk)
