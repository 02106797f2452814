"""The identity of a file: which file it is, and whether it has changed, from stat(2) alone."""

from __future__ import annotations

import errno
import os

from cowherd.errors import FlushFailed, HostFileError
from cowherd.storage.leases import open_despite_leases
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from cowherd.paths import PathName


_LEAST, _MOST = -(1 << 63), (1 << 64) - 1
_NOT_OURS = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS)


class FileIdentity(NamedTuple):
    """A host file as it was at one moment. Equal identities: the same file, not written to, resized or re-owned since.

    The file's owner can set `mtime_ns`, but nobody can set `ctime_ns`; ctime also moves with chmod, chattr, link and rename.
    Both are as fine as the file system stamps them: see `cowherd.storage.ticks`.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path_or_fd: PathName | int) -> Self:
        """Returns the identity of a file, symbolic links followed, or of an open file descriptor. Raises `HostFileError`."""
        try:
            info = os.stat(path_or_fd)
        except OSError as error:
            name = f"file descriptor {path_or_fd}" if isinstance(path_or_fd, int) else path_or_fd
            raise HostFileError(name, "look at", error) from error
        return cls.from_stat(info)

    @classmethod
    def from_stat(cls, info: os.stat_result) -> Self:
        """Returns the identity in a stat(2) result."""
        return cls(info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)

    @classmethod
    def from_dict(cls, facts: Mapping[str, object]) -> Self:
        """Reads the result of `to_dict`, and ignores other keys.

        Raises ValueError if a field is missing or no integer. The caller names the file that it came from.
        """
        return cls(**{name: _integer(facts, name) for name in cls._fields})

    def to_dict(self) -> dict[str, int]:
        """Returns the fields as plain integers, for JSON."""
        return self._asdict()

    def same_file(self, other: FileIdentity) -> bool:
        """Returns whether both are one file on the host, even if it has changed in between."""
        return (self.device, self.inode) == (other.device, other.inode)


def open_unnoticed(path: PathName) -> int:
    """Opens a file for reading without changing the time of its last reading, if the caller owns it: that time is evidence.

    See `cowherd.herd.seals.quick_check`. Raises OSError.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return open_despite_leases(path, flags | os.O_NOATIME)
    except PermissionError:  # another's file; or one that may not be read at all
        return open_despite_leases(path, flags)


def note_reading(path: PathName) -> int:
    """Reads a file so that its host records the reading, and returns the time of its last reading, in nanoseconds since 1970.

    That time then differs from that of its last change, unless its file system records none. Raises `HostFileError`.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.pread(fd, 1, 0)
            return os.fstat(fd).st_atime_ns
        finally:
            os.close(fd)
    except OSError as error:
        raise HostFileError(path, "read", error) from error


def announce_change(path: PathName) -> None:
    """Sets a file's times to now, durably, before it is written to: the host may write bytes long before it writes times.

    Does nothing if the caller has no right to; such a file can't be written to either. Raises `HostFileError` if the host fails.
    """
    _flush(path, touch=True)


def make_lasting(path: PathName) -> None:
    """Makes a file's times durable, so that they still identify it after a power cut. Raises `HostFileError`."""
    _flush(path, touch=False)


def _flush(path: PathName, *, touch: bool) -> None:
    try:
        fd = open_unnoticed(path)
        try:
            if touch:
                os.utime(fd)
            _sync(path, fd)
        finally:
            os.close(fd)
    except FlushFailed:
        raise
    except OSError as error:
        if error.errno not in _NOT_OURS:
            raise HostFileError(path, "flush", error) from error


def _sync(path: PathName, fd: int) -> None:
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno in _NOT_OURS:
            raise
        forget_cached(fd)
        raise FlushFailed(path, error) from error


def forget_cached(fd: int) -> None:
    """Has the host drop the parts of a file in its memory that it need not write, so that reads go to the disk again."""
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError:  # it is only advice: without it, nothing is worse than before
        return


def _integer(facts: Mapping[str, object], name: str) -> int:
    value = facts.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"the file identity has no integer '{name}'")
    if not _LEAST <= value <= _MOST:
        raise ValueError(f"the file identity's '{name}' has more than 64 bits")
    return value
