"""The seam between cowherd and the kernel: every call of cowherd's that touches the host, with a hand in between.

cowherd looks each function up in its module when it calls it (`os.pwritev(...)`), so replacing the module's attribute for the
time of a test reaches every call, and costs nothing when no test runs.
"""

from __future__ import annotations

import builtins
import contextlib
import fcntl
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

from cowherd.storage import fallocate

Call = Callable[..., Any]
Handler = Callable[[str, Call, tuple[Any, ...], dict[str, Any]], Any]
"""Is asked instead of each call: the call's name, the real function, its arguments. Returns what the call shall return."""

CHANGING = (
    *("pwritev", "pwrite", "write", "writev", "ftruncate", "truncate", "posix_fallocate", "copy_file_range", "sendfile"),
    *("fsync", "fdatasync", "rename", "replace", "link", "unlink", "remove", "symlink", "mkdir", "rmdir"),
    *("chmod", "fchmod", "chown", "fchown", "lchown", "utime"),
)
READING = (
    *("open", "close", "stat", "lstat", "fstat", "pread", "preadv", "read", "readv", "lseek", "statvfs", "fstatvfs"),
    *("scandir", "listdir", "readlink", "posix_fadvise"),
)
CLOCKS = ("time", "time_ns", "monotonic", "monotonic_ns", "clock_gettime", "clock_gettime_ns")

_PLACES: tuple[tuple[ModuleType, tuple[str, ...], str], ...] = (
    (os, CHANGING + READING, ""),
    (fcntl, ("fcntl", "ioctl"), ""),
    (builtins, ("open",), "builtin_"),
    (time, CLOCKS, "clock_"),
)
REAL = SimpleNamespace(**{name: getattr(os, name) for name in CHANGING + READING}, fcntl=fcntl.fcntl, ioctl=fcntl.ioctl)
"""The real functions, for who handles calls."""

FICLONE, FICLONERANGE = 0x40049409, 0x4020940D
CLONE_RANGE = struct.Struct("=qQQQ")

_inside = threading.local()


@contextlib.contextmanager
def interposed(handler: Handler) -> Iterator[None]:
    """Gives every call to `handler` while the block runs, except those that a handler makes itself."""
    saved: list[tuple[Any, str, Any]] = []

    def put(place: Any, name: str, wrapper: Any) -> None:
        saved.append((place, name, getattr(place, name)))
        setattr(place, name, wrapper)

    try:
        for place, names, prefix in _PLACES:
            for name in names:
                put(place, name, _handled(handler, prefix + name, getattr(place, name)))
        punch = fallocate._fallocate()
        put(fallocate, "_fallocate", lambda: _handled(handler, "fallocate", punch))
        yield
    finally:
        for place, name, original in reversed(saved):
            setattr(place, name, original)


@contextlib.contextmanager
def quick_flushes() -> Iterator[None]:
    """Makes flushes do nothing: what survives a power cut is modelled, and the host's own disk need not be waited for."""
    saved = os.fsync, os.fdatasync
    os.fsync = os.fdatasync = lambda fd: None  # type: ignore[assignment]
    try:
        yield
    finally:
        os.fsync, os.fdatasync = saved


@contextlib.contextmanager
def played_reflinks() -> Iterator[None]:
    """Makes cloning blocks work on any file system: it is played by a copy."""
    saved = fcntl.ioctl

    def ioctl(fd: int, request: int, argument: Any = 0, *more: Any) -> Any:
        if request == FICLONE:
            source, start, length, place = argument, 0, REAL.fstat(argument).st_size, 0
        elif request == FICLONERANGE:
            source, start, length, place = CLONE_RANGE.unpack(argument)
        else:
            return saved(fd, request, argument, *more)
        REAL.pwrite(fd, REAL.pread(source, length, start), place)
        return 0

    fcntl.ioctl = ioctl
    try:
        yield
    finally:
        fcntl.ioctl = saved


def _handled(handler: Handler, name: str, original: Call) -> Call:
    def call(*arguments: Any, **options: Any) -> Any:
        if getattr(_inside, "yes", False):
            return original(*arguments, **options)
        _inside.yes = True
        try:
            return handler(name, original, arguments, options)
        finally:
            _inside.yes = False

    return call
