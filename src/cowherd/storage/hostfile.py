"""One open host file: positional I/O that is complete or raises, holes, preallocation, durability."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct

from cowherd.errors import FlushFailed, HostFileError, ReadOnlyImage
from cowherd.paths import as_path
from cowherd.storage.filetype import check_type, refuse_other_than_images
from cowherd.storage.identity import forget_cached, open_unnoticed
from cowherd.storage.leases import open_despite_leases
from cowherd.storage.locks import CREATE, INSPECT, LockMode, acquire, release
from cowherd.storage.writes import for_one_write, go_on

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import Self

    from cowherd.paths import PathName

Buffer = bytes | bytearray | memoryview

_BLKROGET = 0x125E
_BLKSSZGET = 0x1268
_BLKDISCARD = 0x1277
_SIGNATURE_BYTES = 512
_ZEROS = memoryview(bytes(1 << 20))
_NOT_FOR_THIS_DEVICE = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL)


class HostFile:
    """An open regular file or block device.

    Reads and writes are positional, so threads may share one object. Short reads and writes of the host are continued;
    reading past the end gives zeros, as QEMU does for image files that end inside a cluster.

    Every method raises `HostFileError` when the host refuses, naming the path and what was tried. After a failed flush the host
    may have forgotten what was written, and succeed the next time; so every later write or flush raises `FlushFailed`.
    """

    def __init__(self, name: str, fd: int, *, writable: bool) -> None:
        """Takes over a descriptor; `name` is the path under which the file was opened."""
        self.name, self.fd, self.writable = name, fd, writable
        info = os.fstat(fd)
        self.is_block_device = stat.S_ISBLK(info.st_mode)
        self.device, self.inode = info.st_dev, info.st_ino
        self._lock_mode: LockMode | None = None
        self._locked_by = 0
        self.failed: OSError | None = None
        """Why a flush failed, if one did: any part of what was written before it may be missing."""

    @property
    def path(self) -> Path:
        """The name under which the file was opened, as a path."""
        return as_path(self.name)

    @property
    def key(self) -> tuple[int, int]:
        """Device and inode: see `BlockFile.key`."""
        return self.device, self.inode

    @property
    def host(self) -> HostFile:
        """The file itself: see `BlockFile.host`."""
        return self

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self.fd < 0

    @classmethod
    def open(cls, path: PathName, *, writable: bool = False, lock: LockMode | None = INSPECT, follow: bool = True) -> Self:
        """Opens an existing file, taking QEMU's locks for `lock` (None takes and tests none).

        Without `follow` it refuses a name that is a symbolic link: somebody else may have put it there.
        Raises `HostFileError`, or `ImageInUse` if another process excludes this use.
        """
        name = os.fspath(path)
        refuse_other_than_images(name, "open")
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
        with naming_file(name, "open"):
            # O_NONBLOCK, since a pipe that was put there meanwhile would hang the open; on regular files only leases heed it.
            looks = lock is None and not writable and not flags & os.O_NOFOLLOW
            fd = open_unnoticed(name) if looks else open_despite_leases(name, flags | os.O_NONBLOCK)
        return cls._adopt(name, fd, "open", writable=writable, lock=lock)

    @classmethod
    def create(cls, path: PathName, *, exclusive: bool = False, lock: LockMode | None = CREATE, mode: int = 0o644) -> Self:
        """Creates an empty file open for writing; empties an existing one once it holds the lock, unless `exclusive`.

        A new file has the permission bits `mode` less the umask; a block device is opened as it is.
        Raises `HostFileError`, or `ImageInUse` if another process has the file in use.
        """
        name = os.fspath(path)
        refuse_other_than_images(name, "create")
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_EXCL if exclusive else 0)
        with naming_file(name, "create"):
            fd = open_despite_leases(name, flags, mode)
        try:
            file = cls._adopt(name, fd, "create", writable=True, lock=lock)
        except BaseException:
            if exclusive:
                _take_back(name)
            raise
        try:
            if not exclusive and not file.is_block_device:
                file.truncate(0)
        except BaseException:
            file.close()
            raise
        return file

    @classmethod
    def _adopt(cls, name: str, fd: int, action: str, *, writable: bool, lock: LockMode | None) -> Self:
        try:
            check_type(name, os.fstat(fd), action)
            file = cls(name, fd, writable=writable)
            if file.is_block_device:
                file._settle_block_device(action)
            if lock is not None:
                file.lock(lock)
        except BaseException:
            os.close(fd)
            raise
        return file

    def _settle_block_device(self, action: str) -> None:
        with naming_file(self.name, action):
            # Drivers of removable media take O_NONBLOCK as permission to go on without a medium.
            fcntl.fcntl(self.fd, fcntl.F_SETFL, fcntl.fcntl(self.fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)
            if self.writable and self._device_number(_BLKROGET):
                raise OSError(errno.EACCES, "The device is not writable")

    def _device_number(self, request: int) -> int:
        (number,) = struct.unpack("i", fcntl.ioctl(self.fd, request, b"\0" * 4))
        return int(number)

    def lock(self, mode: LockMode) -> None:
        """Takes the locks of `mode` in place of those held; if it can't, raises `ImageInUse` and keeps the old ones."""
        acquire(self.fd, mode, self.name, held=self._lock_mode)
        self._lock_mode, self._locked_by = mode, os.getpid()

    def close(self) -> None:
        """Releases the locks and closes the file. Closing twice is fine.

        A child that was forked meanwhile only closes the file: its parent owns the locks, and still relies on them.
        """
        fd, self.fd = self.fd, -1
        if fd < 0:
            return
        with naming_file(self.name, "close"):
            try:
                if self._lock_mode is not None and self._locked_by == os.getpid():
                    release(fd)
            finally:
                os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def size(self) -> int:
        """Returns the file's length in bytes (a block device's capacity)."""
        with naming_file(self.name, "get the size of"):
            if self.is_block_device:
                return os.lseek(self.fd, 0, os.SEEK_END)
            return os.fstat(self.fd).st_size

    def allocated_bytes(self) -> int:
        """Returns the bytes that the file occupies on the host."""
        with naming_file(self.name, "get the size of"):
            return os.fstat(self.fd).st_blocks * 512

    def sector_size(self) -> int:
        """Returns a block device's logical sector size, 1 for a regular file."""
        if not self.is_block_device:
            return 1
        with naming_file(self.name, "get the sector size of"):
            return self._device_number(_BLKSSZGET)

    def pread(self, offset: int, length: int) -> bytes:
        """Returns exactly `length` bytes; bytes past the end of the file are zeros."""
        with naming_file(self.name, "read"):
            data = os.pread(self.fd, length, offset)
        if len(data) == length:
            return data
        buffer = bytearray(length)
        buffer[: len(data)] = data
        if data:
            self.preadinto(offset + len(data), memoryview(buffer)[len(data) :])
        return bytes(buffer)

    def pread_each(self, offsets: Iterable[int], length: int) -> list[bytes]:
        """Returns `length` bytes from each of `offsets`; bytes past the end of the file are zeros."""
        try:
            found = [os.pread(self.fd, length, offset) for offset in offsets]
        except OSError as error:
            raise HostFileError(self.name, "read", error) from error
        return [data if len(data) == length else data.ljust(length, b"\0") for data in found]

    def preadinto(self, offset: int, buffer: memoryview) -> None:
        """Fills `buffer` (contiguous, of any item type) from `offset`; bytes past the end of the file are zeros."""
        view = buffer.cast("B") if buffer.nbytes else buffer[:0]
        try:
            while len(view):
                count = os.preadv(self.fd, [view], offset)
                if not count:
                    view[:] = bytes(len(view))
                    return
                offset, view = offset + count, view[count:]
        except OSError as error:  # not `naming_file`: it would take a third of the time of a small read
            raise HostFileError(self.name, "read", error) from error

    def gather(self, parts: Iterable[tuple[int, memoryview]]) -> None:
        """Fills each buffer from the offset beside it: see `preadinto`."""
        for offset, buffer in parts:
            self.preadinto(offset, buffer)

    def pwrite(self, offset: int, data: Buffer) -> None:
        """Writes all of `data` (contiguous, of any item type) at `offset`."""
        self.pwritev(offset, [data])

    def pwritev(self, offset: int, buffers: Sequence[Buffer]) -> None:
        """Writes the concatenation of `buffers` at `offset`, without joining them in memory."""
        self._require_writable()
        pending = [memoryview(buffer).cast("B") for buffer in buffers if len(buffer)]
        first = 0
        with naming_file(self.name, "write"):
            while first < len(pending):
                count = os.pwritev(self.fd, for_one_write(pending, first), offset)
                if not count:
                    raise OSError(errno.EIO, "the host took no more bytes")
                offset += count
                first = go_on(pending, first, count)

    def start_writing(self, offset: int, length: int) -> None:
        """Has the host begin to write a range to its disk, so that the next `flush` finds less to do; waits for nothing.

        A `length` of 0 reaches to the file's end.
        """
        from cowherd.storage.writeback import start_writing  # only callers that write much need it

        start_writing(self.fd, offset, length)

    def flush(self, *, whole: bool = False) -> None:
        """Makes everything written so far durable (fdatasync); with `whole` the file's permission bits and times, too (fsync).

        Raises `FlushFailed`; once it did, it always does: see the class.
        """
        self.require_trusted()
        try:
            (os.fsync if whole else os.fdatasync)(self.fd)
        except OSError as error:
            self.failed = error
            self.forget_cached()  # the host may still show bytes that its disk does not hold
            raise FlushFailed(self.name, error) from error

    def forget_cached(self) -> None:
        """Has the host drop the parts of the file in its memory that it need not write, so that reads go to the disk again."""
        forget_cached(self.fd)

    def truncate(self, size: int) -> None:
        """Sets the length of a regular file."""
        self._require_writable()
        with naming_file(self.name, "resize"):
            os.ftruncate(self.fd, size)

    def reach(self, size: int) -> None:
        """Makes a regular file `size` bytes long; a block device only has to have that many."""
        if not self.is_block_device:
            self.truncate(size)
        elif self.size() < size:
            with naming_file(self.name, "grow"):
                raise OSError(errno.ENOSPC, f"it is a device of {self.size()} bytes, and {size} are needed")

    def clear_signature(self) -> None:
        """Makes a block device begin with zeros, durably, so that nobody takes it for its old content; does nothing to a file.

        QEMU also does this before it makes an image on a device: a half-written device is then no image, neither old nor new.
        """
        if self.is_block_device:
            self.pwrite(0, bytes(min(_SIGNATURE_BYTES, self.size())))
            self.flush()

    def write_zeros(self, offset: int, length: int, *, unmap: bool) -> None:
        """Makes a range read as zeros, by writing them if the host has no other way; see `zero_range`."""
        if not self.zero_range(offset, length, unmap=unmap):
            for position in range(offset, offset + length, len(_ZEROS)):
                self.pwrite(position, _ZEROS[: min(len(_ZEROS), offset + length - position)])

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yields the (start, end) runs of [start, end) that the host holds data for; the rest are holes that read as zeros.

        A file system without SEEK_DATA, and a block device, count as all data.
        """
        position = start
        while position < end:
            try:
                data = os.lseek(self.fd, position, os.SEEK_DATA)
                if data >= end:
                    return
                hole = min(os.lseek(self.fd, data, os.SEEK_HOLE), end)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                    raise HostFileError(self.name, "find the holes of", error) from error
                yield position, end
                return
            if data < hole:  # they are equal if somebody punched a hole between the two calls
                yield data, hole
            position = hole

    def next_data(self, offset: int) -> int | None:
        """Returns the first offset from `offset` on at which the host holds data, None if there is none: the rest reads as zeros.

        A file system without SEEK_DATA, and a block device, count as all data.
        """
        try:
            return os.lseek(self.fd, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return None
            if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
                return offset
            raise HostFileError(self.name, "find the holes of", error) from error

    def zero_range(self, offset: int, length: int, *, unmap: bool) -> bool:
        """Makes a range read as zeros without writing it; with `unmap`, gives its space back.

        Returns False if the host can't: then the caller must write zeros. The file's length stays as it is.
        """
        from cowherd.storage import fallocate

        self._require_writable()
        with naming_file(self.name, "write zeros to"):
            try:
                return fallocate.zero_range(self.fd, offset, length, unmap=unmap)
            except OSError as error:
                if self.is_block_device and error.errno in _NOT_FOR_THIS_DEVICE:  # for example, the range is less than a sector
                    return False
                raise

    def punch_hole(self, offset: int, length: int) -> None:
        """Gives a range's space back to the host if the host can; the range's content is then undefined."""
        self._require_writable()
        with naming_file(self.name, "discard a range of"):
            if self.is_block_device:
                self._discard_on_device(offset, length)
            else:
                from cowherd.storage import fallocate

                fallocate.zero_range(self.fd, offset, length, unmap=True)

    def _discard_on_device(self, offset: int, length: int) -> None:
        try:
            fcntl.ioctl(self.fd, _BLKDISCARD, struct.pack("QQ", offset, length))
        except OSError as error:
            if error.errno not in _NOT_FOR_THIS_DEVICE:  # a device need not discard: the content is undefined anyway
                raise

    def preallocate(self, offset: int, length: int) -> None:
        """Reserves host space for a range, extending the file if it ends inside it."""
        self._require_writable()
        with naming_file(self.name, "preallocate"):
            os.posix_fallocate(self.fd, offset, length)

    def _require_writable(self) -> None:
        if not self.writable:
            raise ReadOnlyImage(self.name)
        self.require_trusted()

    def require_trusted(self) -> None:
        """Raises `FlushFailed` if a flush has failed; for code that writes through the descriptor itself."""
        if self.failed is not None:
            raise FlushFailed(self.name, self.failed)


class naming_file:  # noqa: N801  # it is used as a function is, with `with`
    """Turns an OSError of the block into a `HostFileError` that names the file and the `action`, such as "read"."""

    def __init__(self, name: PathName, action: str) -> None:
        self.name, self.action = name, action

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, HostFileError):
            raise HostFileError(self.name, self.action, error) from error


def _take_back(name: str) -> None:
    try:
        os.unlink(name)
    except OSError:  # the error for which it is taken back says more
        return
