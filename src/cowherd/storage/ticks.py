"""Knows how coarse the times of a file system are, and waits until a change would show in them.

A file system stamps a change with the time of a clock, rounded down to what its inodes can hold. A second change within one step
of that clock looks like no change at all. docs/guard.md has the table.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import time

from cowherd.storage.identity import FileIdentity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.paths import PathName

_COARSE_CLOCK = 5  # CLOCK_REALTIME_COARSE, by which local file systems stamp times; Python has no name for it
_SECOND = 10**9
_LONGEST_TICK_NS = 20_000_000
_LONGEST_REMOTE_TICK_NS = 2 * _SECOND + 500_000_000  # a server may keep its files on FAT

_STEPS = {"vfat": 2 * _SECOND, "msdos": 2 * _SECOND, "exfat": 10_000_000}
"""Types of local file systems with steps of their own, in nanoseconds. Steps of a second show in the times themselves."""

_REMOTE = (
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "glusterfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "gfs2",
    "smb3",
    "smbfs",
    "virtiofs",
)
"""Types of file systems whose times come from another machine's clock."""

_NO_TRACE = ("tmpfs", "ramfs", "hugetlbfs")
"""Types of file systems on which a write through a memory map moves no time at all: they never write pages back."""


def wait_for_tick(path: PathName) -> tuple[FileIdentity, bool]:
    """Returns a file's identity once the clock of its file system has ticked since it changed, and whether that is certain.

    Then every later change shows in the identity, apart from those that `leaves_no_trace` names. That takes up to 2 seconds if
    times are coarse, otherwise a few milliseconds, and no time for a file that has not changed lately. It is not certain if the
    clock is another machine's and no file can be made beside this one to see it tick. Raises `HostFileError`.
    """
    identity = FileIdentity.of(path)
    kind = _type_of(identity.device)
    if kind in _REMOTE or kind.startswith("fuse"):
        return _settle_by_neighbour(path, identity)
    step = _STEPS.get(kind, 1)
    if step == 1 and identity.ctime_ns % _SECOND == 0:
        step = _SECOND  # ext2, ext3 and ext4 with inodes of 128 bytes, HFS+, or one case in a thousand million
    # A file that changes all the time, or a clock that is set back, must not make it wait for ever.
    give_up = time.monotonic_ns() + max(step, _LONGEST_TICK_NS) + _LONGEST_TICK_NS
    while _is_now(identity.ctime_ns, step) and time.monotonic_ns() < give_up:
        time.sleep(0.001 if step == 1 else 0.01)
        identity = FileIdentity.of(path)
    return identity, not _is_now(identity.ctime_ns, step)


def identity_after_tick(path: PathName) -> FileIdentity:
    """Returns the identity that `wait_for_tick` returns, without whether it is certain."""
    return wait_for_tick(path)[0]


def leaves_no_trace(info: os.stat_result) -> str | None:
    """Returns why a change of the file of this stat(2) result need not show in its times, None if it does show."""
    if stat.S_ISBLK(info.st_mode):
        return "a block device does not tell when it was written to"
    if os.major(info.st_dev):
        return None
    kind = _type_of(info.st_dev)
    return f"on {kind} a write through a memory map moves no time" if kind in _NO_TRACE else None


def _is_now(stamp: int, step: int) -> bool:
    """Returns whether a change now could get the time `stamp` again. A stamp from a clock that was ahead does not count."""
    clock = time.clock_gettime_ns(_COARSE_CLOCK)
    return clock - clock % step <= stamp <= clock + step + _LONGEST_TICK_NS


def _settle_by_neighbour(path: PathName, identity: FileIdentity) -> tuple[FileIdentity, bool]:
    """Makes empty files beside `path` until one of them is newer than the last change of `path`."""
    give_up = time.monotonic_ns() + _LONGEST_REMOTE_TICK_NS
    while time.monotonic_ns() < give_up:
        now = _stamp_beside(path)
        if now is None:
            return identity, False
        if now > identity.ctime_ns:
            return identity, True
        time.sleep(0.01)
    return identity, False


def _stamp_beside(path: PathName) -> int | None:
    """Makes a file beside `path`, removes it and returns its ctime, None if no file can be made."""
    from cowherd.storage.atomic import temporary_name

    name = temporary_name(path)
    try:
        fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return None
    try:
        return os.fstat(fd).st_ctime_ns
    finally:
        os.close(fd)
        with contextlib.suppress(OSError):  # 'cowherd gc' finds a file that stays
            os.unlink(name)


def _type_of(device: int) -> str:
    return _types().get(device) or _looked_up(device)


@functools.lru_cache(maxsize=1024)
def _looked_up(device: int) -> str:
    """Returns the type of a file system that was mounted after the table was read, "" if it is in no table."""
    _types.cache_clear()
    return _types().get(device, "")


@functools.cache
def _types() -> dict[int, str]:
    from cowherd.storage.mounts import mounts

    try:
        return {mount.device: mount.type for mount in mounts()}
    except OSError:
        return {}
