"""Files that a job holds open and locked until it ends: each is opened once, and lent to what reads it meanwhile.

The locks of one file exclude each other even inside one process. So what reads or writes a held file gets it from `Holding.open`,
and relies on the locks that are held. A held file is opened a second time to be written to, and not before: as long as this
process has it open for reading only, the kernel tells whether anybody else has it open (`cowherd.storage.leases`); and a sealed
file can't be opened for writing before its protection is lifted.
"""

from __future__ import annotations

import contextlib
import os
from contextlib import ExitStack

from cowherd.storage.hostfile import HostFile
from cowherd.storage.opening import open_file
from cowherd.urls import Url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from cowherd.paths import PathName
    from cowherd.storage.blocks import BlockFile
    from cowherd.storage.locks import LockMode
    from cowherd.urls import ImageName

Key = tuple[int, int]

_MOST_WRITERS = 64
"""So many files stay open for writing; others are opened for each use, as a process may not open any number."""

MOST_HELD = 256
"""For jobs on any number of files: so many are held, and the others opened when they are used, as a process may not open all."""


class Holding:
    """Locks on files, all released when the block ends. A file is known by its device and inode, whatever its name is."""

    def __init__(self, most: int | None = None) -> None:
        """`most`: how many files are held, None for all; the locks of those beyond are only tried."""
        self._most = most
        self._files: dict[Key, _Held] = {}
        self._writers: dict[Key, HostFile] = {}

    def lock(self, name: PathName, mode: LockMode) -> None:
        """Locks a file as `mode` says; a lock that is held and allows as much stays. Raises `ImageInUse`, `HostFileError`."""
        file = self._held(name)
        if file is not None:
            file.lock(mode)
            return
        file = _Held.open(name, lock=None)  # without a lock, so that reading it does not change its time of last access
        try:
            file.lock(mode)
        except BaseException:
            file.close()
            raise
        self._add(file)

    def open(self, name: ImageName, *, writable: bool = False) -> BlockFile:
        """Opens a file as `open_file` does, or lends a held one: its locks are the holder's, and closing it leaves it open."""
        holder = None if isinstance(name, Url) else self._held(name)
        if isinstance(name, Url) or holder is None:
            return open_file(name, writable=writable)
        file = self._writer(name, holder.key) if writable else holder
        return _Lent(os.fspath(name), file.fd, holder, writable=writable, closes=writable and holder.key not in self._writers)

    def keep(self, name: ImageName, *, writable: bool = False) -> BlockFile:
        """Does what `open` does, and holds the file from then on, with the locks that its borrowers need."""
        if not isinstance(name, Url) and self._held(name) is None:
            self._add(_Held.open(name, lock=None))
        return self.open(name, writable=writable)

    def file(self, key: Key) -> HostFile | None:
        """Returns a held file, open for reading; the caller must not close it."""
        return self._files.get(key)

    def descriptors(self) -> dict[Key, int]:
        """Returns the descriptors of the held files that this process has open for reading only, and once."""
        return {key: file.fd for key, file in self._files.items() if key not in self._writers}

    def end_writing(self) -> None:
        """Closes the files for writing, which nobody may use any more; the locks stay."""
        writers, self._writers = self._writers, {}
        with ExitStack() as stack:
            for file in writers.values():
                stack.callback(file.close)

    def close(self) -> None:
        """Gives up all locks."""
        with ExitStack() as stack:
            for file in (*self._files.values(), *self._writers.values()):
                stack.callback(file.close)
            self._files, self._writers = {}, {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _held(self, name: PathName) -> _Held | None:
        with contextlib.suppress(OSError, ValueError):  # opening it reports what is wrong with the name
            info = os.stat(name)
            return self._files.get((info.st_dev, info.st_ino))
        return None

    def _add(self, file: _Held) -> None:
        if self._most is not None and len(self._files) >= self._most:
            file.close()
        else:
            self._files[file.key] = file

    def _writer(self, name: PathName, key: Key) -> HostFile:
        """Opens a held file for writing, once if few are written to; else its borrower has to close it."""
        file = self._writers.get(key) or HostFile.open(name, writable=True, lock=None)
        if len(self._writers) < _MOST_WRITERS:
            self._writers[key] = file
        return file


class _Held(HostFile):
    """A file that is held: a lock that allows as much as the one that is asked for stays."""

    def lock(self, mode: LockMode) -> None:
        if self._lock_mode is None or not self._lock_mode.covers(mode):
            super().lock(mode)


class _Lent(HostFile):
    """A held file, under the name by which somebody asked for it; `closes`: the descriptor is the borrower's own."""

    def __init__(self, name: str, fd: int, holder: _Held, *, writable: bool, closes: bool) -> None:
        super().__init__(name, fd, writable=writable)
        self._holder, self._closes = holder, closes

    def lock(self, mode: LockMode) -> None:
        self._holder.lock(mode)

    def close(self) -> None:
        if self._closes:
            super().close()
        self.fd = -1
