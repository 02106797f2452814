"""A flush that fails, as Linux has it: the host forgets what it could not write, and says nothing the next time.

The pages that the failed flush did not make durable (all of them, or some drawn by lot) are again what the disk holds: at once
when the host is told to forget what it keeps in memory, else when the job has ended.
"""

from __future__ import annotations

import os
import random
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.reliability.calls import FICLONE, FICLONERANGE, REAL, Call
from tests.reliability.faults import kind_of

FLUSHES = ("fsync", "fdatasync")
_WRITES = ("pwritev", "pwrite", "ftruncate", "posix_fallocate", "copy_file_range", "fallocate", "ioctl")
_PAGE = 4096


@dataclass
class ForgettingFlush:
    """Makes flush number `number` (from 0) of the files under `root` fail with `error`; with `lasting` all that follow, too."""

    root: Path
    number: int
    error: int
    generator: random.Random
    lasting: bool = False
    met: int = 0
    struck: str = ""
    lost: int = 0
    """How many pages were forgotten."""

    _durable: dict[tuple[int, int], bytes] = field(default_factory=dict)
    _checked_for_deletion: dict[tuple[int, int], tuple[int, dict[int, bytes]]] = field(default_factory=dict)

    def handle(self, name: str, call: Call, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """For `interposed`."""
        if not kind_of(self.root, name, arguments, options):
            return call(*arguments, **options)
        if name in _WRITES and (name != "ioctl" or arguments[1] in (FICLONE, FICLONERANGE)):
            self._note_write(arguments[1] if name == "copy_file_range" else arguments[0])
        elif name in FLUSHES and _is_regular(arguments[0]):
            self._flush(name, arguments[0])
        elif name == "posix_fadvise" and arguments[3] == os.POSIX_FADV_DONTNEED:
            self._forget(_key(arguments[0]))
        return call(*arguments, **options)

    def _note_write(self, fd: int) -> None:
        if _is_regular(fd):
            self._durable.setdefault(_key(fd), REAL.pread(fd, REAL.fstat(fd).st_size, 0))

    def _flush(self, name: str, fd: int) -> None:
        self.met += 1
        if self.met - 1 == self.number or (self.lasting and self.met - 1 > self.number):
            self.struck = self.struck or f"{name} {os.path.basename(REAL.readlink(f'/proc/self/fd/{fd}'))}"
            self._doom(fd)
            raise OSError(self.error, os.strerror(self.error))
        if _key(fd) not in self._checked_for_deletion:
            self._durable.pop(_key(fd), None)

    def _doom(self, fd: int) -> None:
        before = self._durable.pop(_key(fd), None)
        if before is None:
            return
        size = REAL.fstat(fd).st_size
        now, before = REAL.pread(fd, size, 0), before.ljust(size, b"\0")
        pages = [at for at in range(0, size, _PAGE) if now[at : at + _PAGE] != before[at : at + _PAGE]]
        if self.generator.random() < 0.5:
            pages = [page for page in pages if self.generator.random() < 0.5]
        self.lost += len(pages)
        doomed = {at: before[at : min(size, at + _PAGE)] for at in pages}
        self._checked_for_deletion[_key(fd)] = REAL.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC), doomed

    def _forget(self, key: tuple[int, int]) -> None:
        fd, pages = self._checked_for_deletion.pop(key, (-1, {}))
        for at, data in pages.items():
            REAL.pwrite(fd, data, at)
        if fd >= 0:
            os.close(fd)

    def forget_all(self) -> None:
        """The host forgets what it had not forgotten yet: called when the job has ended."""
        for key in list(self._checked_for_deletion):
            self._forget(key)


def _key(fd: int) -> tuple[int, int]:
    info = REAL.fstat(fd)
    return info.st_dev, info.st_ino


def _is_regular(fd: Any) -> bool:
    return isinstance(fd, int) and stat.S_ISREG(REAL.fstat(fd).st_mode)
