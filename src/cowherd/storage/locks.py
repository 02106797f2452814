"""QEMU's image locks (block/file-posix.c, "raw_apply_lock_bytes" and "raw_check_lock_bytes").

A process that uses permission n holds an open-file-description read lock on byte 100+n of the file; a process that denies it to
others holds one on byte 200+n. After taking its own locks, each side tests the other's bytes with F_OFD_GETLK. So two processes
that start at once may both back off, but never both go on.

What QEMU 10.0.2 takes depends on the format and on the use (seen with strace):

==================  ===========================================================  ===========  ======
mode                what QEMU uses it for                                        needs        denies
==================  ===========================================================  ===========  ======
`INSPECT`           info of a qcow2 image                                        -            201 203
`READ`              reading a qcow2 image; the source of a convert, also raw     100          201 203
`WRITE`             writing a qcow2 image                                        100 101 103  201 203
`READ_RAW`          reading a raw image (map, compare, dd), a raw base           100          -
`WRITE_RAW`         writing a raw image                                          100 101      -
`RESIZE_RAW`        resizing a raw image                                         100 101 103  -
`CREATE`            emptying the file of a new image, whatever its format        101 103      203
`READ_SHARED`       reading any image with force-share (-U)                      100          -
`INSPECT_SHARED`    info with -U; info of a raw image                            -            -
==================  ===========================================================  ===========  ======

Like QEMU (locking=auto), no locks are taken where the kernel has none of this kind; a file system that refuses them is an error.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from cowherd.errors import HostFileError, ImageInUse
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.paths import PathName

PERMISSION_BASE = 100
SHARED_BASE = 200

CONSISTENT_READ, WRITE_PERMISSION, WRITE_UNCHANGED, RESIZE = 0, 1, 2, 3
NAMES = ("consistent read", "write", "write unchanged", "resize")

_FLOCK = struct.Struct("hhqqi4x")  # struct flock with 64-bit offsets: type, whence, start, length, pid (0 for these locks)
_HELD_EXCLUSIVELY = (errno.EAGAIN, errno.EACCES)  # POSIX allows either


class LockMode(NamedTuple):
    """Which permissions (indices into `NAMES`) a use of an image needs, and which it denies to others."""

    name: str
    needs: frozenset[int]
    denies: frozenset[int]

    def covers(self, other: LockMode) -> bool:
        """Returns whether the holder of this mode may do all that `other` allows, without further locks."""
        return other.needs <= self.needs and other.denies <= self.denies


INSPECT = LockMode("inspect", frozenset(), frozenset({WRITE_PERMISSION, RESIZE}))
"""Reading headers and tables only, as `qemu-img info` does."""
READ = LockMode("read", frozenset({CONSISTENT_READ}), frozenset({WRITE_PERMISSION, RESIZE}))
WRITE = LockMode("write", frozenset({CONSISTENT_READ, WRITE_PERMISSION, RESIZE}), frozenset({WRITE_PERMISSION, RESIZE}))

READ_RAW = LockMode("read raw", frozenset({CONSISTENT_READ}), frozenset())
"""Reading a raw image. QEMU denies nothing to others: raw has no tables that a writer could leave half changed."""
WRITE_RAW = LockMode("write raw", frozenset({CONSISTENT_READ, WRITE_PERMISSION}), frozenset())
RESIZE_RAW = LockMode("resize raw", frozenset({CONSISTENT_READ, WRITE_PERMISSION, RESIZE}), frozenset())
CREATE = LockMode("create", frozenset({WRITE_PERMISSION, RESIZE}), frozenset({RESIZE}))
"""Emptying a file to make a new image in it."""

READ_SHARED = LockMode("read shared", frozenset({CONSISTENT_READ}), frozenset())
"""Reading with force-share: the content may change meanwhile. Only a process that denies consistent reads prevents it."""
INSPECT_SHARED = LockMode("inspect shared", frozenset(), frozenset())
"""Reading headers with force-share: takes and tests nothing."""


def acquire(fd: int, mode: LockMode, path: PathName, held: LockMode | None = None) -> None:
    """Makes `fd` hold exactly the locks of `mode`; before, it may hold those of `held`.

    Raises `ImageInUse` if another open file description excludes that, and `HostFileError` if the file system has no such locks;
    then `fd` holds the locks of `held` as before.
    Not atomic against other users, but safe: each side takes its locks before it tests those of others.
    """
    if not _kernel_has_locks():
        return
    wanted = _bytes(mode)
    before = _bytes(held) if held else frozenset()
    taken: list[int] = []
    try:
        for byte in sorted(wanted - before):
            lock_shared(fd, byte, path)
            taken.append(byte)
        # A lesser mode conflicts with nobody: its locks were tested when the greater one was taken.
        if not (held and held.covers(mode)):
            _refuse_conflicts(fd, mode, path)
    except BaseException:
        _drop(fd, taken, path)
        raise
    _drop(fd, sorted(before - wanted), path)


def hold_beside(fd: int, mode: LockMode, path: PathName) -> None:
    """Makes `fd` hold the locks of `mode`, which another descriptor of this process holds on the same file.

    Nobody is asked: whoever was in the way would have kept that other one from its locks. Raises as `acquire`.
    """
    if _kernel_has_locks():
        for byte in sorted(_bytes(mode)):
            lock_shared(fd, byte, path)


def release(fd: int) -> None:
    """Releases every lock that `acquire` may have taken on `fd`.

    Closing `fd` is not enough if another process has inherited it: the locks belong to the open file description.
    """
    if _kernel_has_locks():
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _request(fcntl.F_UNLCK, PERMISSION_BASE, SHARED_BASE + 100 - PERMISSION_BASE))


_answer: list[bool] = []
"""What `_kernel_has_locks` has found out: by `functools.cache` it would take ten times as long to load as all of this module."""


def _kernel_has_locks() -> bool:
    """Returns whether the kernel has open-file-description locks. QEMU tests the same file, once a process."""
    if not _answer:
        _answer.append(_ask_for_locks())
    return _answer[0]


def _ask_for_locks() -> bool:
    fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _request(fcntl.F_WRLCK, 0, 0))
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOSYS):
            return False
        raise HostFileError(os.devnull, "test the locks of", error) from error
    finally:
        os.close(fd)
    return True


def _bytes(mode: LockMode) -> frozenset[int]:
    return frozenset({PERMISSION_BASE + n for n in mode.needs} | {SHARED_BASE + n for n in mode.denies})


def _refuse_conflicts(fd: int, mode: LockMode, path: PathName) -> None:
    for permission in sorted(mode.needs):
        if is_locked_by_others(fd, SHARED_BASE + permission, path):
            raise ImageInUse(path, NAMES[permission])
    for permission in sorted(mode.denies):
        if is_locked_by_others(fd, PERMISSION_BASE + permission, path):
            raise ImageInUse(path, NAMES[permission], shared=True)


def is_locked_by_others(fd: int, byte: int, path: PathName) -> bool:
    """Returns whether another open file description has a lock on a byte of the file of `fd`. Raises `HostFileError`."""
    try:
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _request(fcntl.F_WRLCK, byte, 1))
    except OSError as error:
        raise HostFileError(path, f"test the lock on byte {byte} of", error) from error
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def lock_shared(fd: int, byte: int, path: PathName) -> None:
    """Locks a byte for this open file description, beside others that do the same. Raises `ImageInUse`, `HostFileError`."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _request(fcntl.F_RDLCK, byte, 1))
    except OSError as error:
        if error.errno in _HELD_EXCLUSIVELY:  # by a program that is not QEMU, which takes read locks only
            raise ImageInUse(path, NAMES[byte % 100], shared=byte >= SHARED_BASE) from error
        raise HostFileError(path, f"lock byte {byte} of", error) from error


def _drop(fd: int, locked: list[int], path: PathName) -> None:
    for byte in locked:
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _request(fcntl.F_UNLCK, byte, 1))
        except OSError as error:
            raise HostFileError(path, f"unlock byte {byte} of", error) from error


def _request(kind: int, start: int, length: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, start, length, 0)
