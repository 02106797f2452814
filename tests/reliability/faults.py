"""Faults of the host: what goes wrong in one call, chosen by its number."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.reliability.calls import CHANGING, FICLONE, FICLONERANGE, REAL, Call

_FLOCK = struct.Struct("hhqqi4x")
_SPACE = (
    *("pwritev", "pwrite", "ftruncate", "posix_fallocate", "copy_file_range", "fallocate", "ioctl clone", "open create"),
    *("mkdir", "link", "rename", "symlink"),
)
_DATA = ("pread", "preadv", "pwritev", "pwrite", "copy_file_range", "fsync", "fdatasync")
_NAMED = ("open", "open create", "builtin_open", "stat", "lstat", "scandir", "listdir")
_CLOSED = ("open", "open write", "open create", "unlink", "rename", "link", "mkdir", "rmdir", "scandir", "listdir")
_REFUSED = (*CHANGING, "open write", "open create", "fallocate")
JUMP_SECONDS = 400 * 24 * 3600


@dataclass(frozen=True)
class Fault:
    """What goes wrong in calls of some names. `lasting`: in all that follow, too, as on a disk that is full."""

    name: str
    calls: tuple[str, ...]
    error: int = 0
    lasting: bool = False


FAULTS = (
    Fault("ENOSPC", _SPACE, errno.ENOSPC),
    Fault("ENOSPC from here on", _SPACE, errno.ENOSPC, lasting=True),
    Fault("EDQUOT", _SPACE, errno.EDQUOT),
    Fault("EIO", (*_DATA, *CHANGING, *_NAMED, "fallocate", "lseek", "ioctl clone"), errno.EIO),
    Fault("EROFS from here on", _REFUSED, errno.EROFS, lasting=True),
    Fault("EACCES", _CLOSED, errno.EACCES),
    Fault("EINTR", ("fallocate",), errno.EINTR),
    Fault("short", ("pread", "preadv", "pwritev", "pwrite", "copy_file_range")),
    Fault("shrunk", ("pread", "preadv")),
    Fault("replaced", ("pread", "preadv")),
    Fault("lock refused", ("fcntl lock",), errno.ENOLCK),
    Fault("lock lost", ("fcntl ask",)),
    Fault("clock ahead", ("clock",)),
    Fault("clock back", ("clock",)),
)


@dataclass
class Counter:
    """Counts the calls that concern files under `root`, and the clock's; each has a name that says what it is about."""

    root: Path
    seen: list[str] = field(default_factory=list)

    def handle(self, name: str, call: Call, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """For `interposed`."""
        if kind := kind_of(self.root, name, arguments, options):
            self.seen.append(kind)
        return call(*arguments, **options)


@dataclass
class Injected:
    """Makes call number `number` (from 0) of those that `fault` concerns go wrong."""

    root: Path
    fault: Fault
    number: int
    met: int = 0
    struck: str = ""
    jumped: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def handle(self, name: str, call: Call, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """For `interposed`."""
        kind = kind_of(self.root, name, arguments, options)
        with self.lock:
            hit = kind in self.fault.calls and self._hit()
        if kind == "clock":
            return self._clock(name, call(*arguments, **options), hit=hit)
        if not hit:
            return call(*arguments, **options)
        self.struck = self.struck or f"{kind} {arguments[0]!r}"
        return self._strike(name, call, arguments, options)

    def _hit(self) -> bool:
        self.met += 1
        return self.met - 1 == self.number or (self.fault.lasting and self.met - 1 > self.number)

    def _clock(self, name: str, now: Any, *, hit: bool) -> Any:
        if hit:
            self.struck = self.struck or name
            self.jumped = JUMP_SECONDS if self.fault.name == "clock ahead" else -JUMP_SECONDS
        if "monotonic" in name:
            return now
        return now + type(now)(self.jumped * (10**9 if name.endswith("_ns") else 1))

    def _strike(self, name: str, call: Call, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        special: dict[str, Callable[..., Any]] = {
            "short": _short,
            "shrunk": _shrunk,
            "replaced": _replaced,
            "lock lost": _locked,
            "EINTR": _interrupted,
        }
        if self.fault.name == "EINTR":
            return errno.EINTR
        if strike := special.get(self.fault.name):
            return strike(name, call, *arguments, **options)
        if name == "fallocate":
            return self.fault.error
        named = (arguments[0],) if isinstance(arguments[0], str | bytes | os.PathLike) else ()
        raise OSError(self.fault.error, os.strerror(self.fault.error), *named)


def kind_of(root: Path, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> str:
    """What a call is, if it concerns files under `root` or the clock; else an empty string."""
    if name.startswith("clock_"):
        return "clock"
    if not arguments or not _concerns(root, arguments[0], options.get("dir_fd")):
        return ""
    if name == "open" and arguments[1] & os.O_ACCMODE:
        return "open create" if arguments[1] & os.O_CREAT else "open write"
    if name == "ioctl":
        return "ioctl clone" if arguments[1] in (FICLONE, FICLONERANGE) else "ioctl"
    if name == "fcntl" and arguments[1] in (fcntl.F_OFD_SETLK, fcntl.F_OFD_GETLK):
        if arguments[1] == fcntl.F_OFD_GETLK:
            return "fcntl ask"
        return "fcntl unlock" if _FLOCK.unpack(arguments[2])[0] == fcntl.F_UNLCK else "fcntl lock"
    return name


def _concerns(root: Path, subject: Any, dir_fd: int | None) -> bool:
    if dir_fd is not None:
        subject = dir_fd
    if isinstance(subject, int):
        try:
            subject = REAL.readlink(f"/proc/self/fd/{subject}")
        except OSError:
            return False
    try:
        return os.path.abspath(os.fsdecode(subject)).startswith(os.fspath(root))
    except TypeError:
        return False


def _short(name: str, call: Call, fd: int, what: Any, *more: Any) -> Any:
    """Moves half of what is asked for, and at least a byte."""
    if name == "pread":
        return call(fd, max(1, what // 2), *more)
    if name == "copy_file_range":
        return call(fd, what, max(1, more[0] // 2), *more[1:])
    if name == "pwrite":
        return call(fd, bytes(what)[: max(1, len(what) // 2)], *more)
    views = [memoryview(part).cast("B") for part in what]
    longest = max(views, key=len)
    whole = views[: views.index(longest)]
    return call(fd, [*whole, longest[: max(1, len(longest) // 2)]], *more)


def _path_of(fd: int) -> Path:
    return Path(REAL.readlink(f"/proc/self/fd/{fd}"))


def _shrunk(name: str, call: Call, fd: int, *more: Any) -> Any:
    """Somebody cuts the file in the middle."""
    os.truncate(_path_of(fd), REAL.fstat(fd).st_size // 2)
    return call(fd, *more)


def _replaced(name: str, call: Call, fd: int, *more: Any) -> Any:
    """Somebody puts another file in its place."""
    path = _path_of(fd)
    if path.exists():
        other = path.with_name("another")
        other.write_bytes(bytes(REAL.fstat(fd).st_size))
        REAL.rename(other, path)
    return call(fd, *more)


def _locked(name: str, call: Call, fd: int, command: int, request: bytes) -> bytes:
    """Somebody else holds the lock that is asked about."""
    _, *rest = _FLOCK.unpack(request)
    return _FLOCK.pack(fcntl.F_RDLCK, *rest)


def _interrupted(*_: Any) -> int:
    return errno.EINTR
