"""Files that a job holds open and locked until it ends: each is opened once, and lent to what reads it meanwhile.

The locks of one file exclude each other even inside one process. So what reads or writes a held file gets it from `Holding.open`,
and relies on the locks that are held. A held file is opened a second time to be written to, and not before: as long as this
process has it open for reading only, the kernel tells whether anybody else has it open (`cowherd.storage.leases`); and a sealed
file can't be opened for writing before its protection is lifted.

A process may have only so many files open. So of very many, those that nobody uses at the moment are parked: their locks stay
(`cowherd.storage.mappedlocks`), and each is opened again when it is asked for.
"""

from __future__ import annotations

import errno
import os
import resource
from contextlib import ExitStack

from cowherd.errors import HostFileError
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import hold_beside
from cowherd.storage.mappedlocks import MappedLocks, outlive_descriptors
from cowherd.storage.opening import open_file
from cowherd.tuples import NamedTuple
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

_MOST_OPEN = 24
"""So many files keep their descriptors. Those that are lent do in any case, and those whose locks need a descriptor."""

_OTHER_DESCRIPTORS = 128
"""What a job has open beside the files that it holds, generously."""

_MOST_WRITERS = 16
"""So many files stay open for writing; others are opened for each use, as a process may not open any number."""

MOST_HELD = 256
"""For jobs on any number of files: so many are held, and the others opened when they are used, as a process may not open all."""


class Holding:
    """Locks on files, all released when the block ends. A file is known by its device and inode, whatever its name is."""

    def __init__(self, most: int | None = None) -> None:
        """`most`: how many files are held, None for all; the locks of those beyond are only tried."""
        self._most = most
        self._files: dict[Key, _Held] = {}
        self._parked: dict[Key, _Parked] = {}
        self._writers: dict[Key, HostFile] = {}

    def lock(self, name: PathName, mode: LockMode) -> None:
        """Locks a file as `mode` says; a lock that is held and allows as much stays. Raises `ImageInUse`, `HostFileError`."""
        key = _key_at(name)
        parked = self._parked.get(key) if key else None
        if parked is not None and parked.mode.covers(mode):
            return
        if key and (held := self._with_descriptor(key)):
            held.lock(mode)
            return
        file = _Held.open(name, lock=None)  # without a lock, so that reading it does not change its time of last access
        try:
            file.lock(mode)
        except BaseException:
            file.close()
            raise
        self._add(file)

    def open(self, name: ImageName, *, writable: bool = False) -> BlockFile:
        """Opens a file as `open_file` does, or lends a held one: its locks are the holder's, and closing it leaves them."""
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

    def reader(self, key: Key) -> int | None:
        """Returns the descriptor of a held file that this process has open for reading only, and once; None for any other.

        It is good until the next file is asked for. Raises `HostFileError`.
        """
        if key in self._writers or (file := self._with_descriptor(key)) is None:
            return None
        return file.fd

    def descriptors(self) -> set[int]:
        """Returns the descriptors of the files that are held, and open for reading only."""
        return {file.fd for key, file in self._files.items() if key not in self._writers}

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
            for parked in self._parked.values():
                stack.callback(parked.close)
            self._files, self._writers, self._parked = {}, {}, {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _held(self, name: PathName) -> _Held | None:
        key = _key_at(name)
        return None if key is None else self._with_descriptor(key)

    def _with_descriptor(self, key: Key) -> _Held | None:
        """Returns a held file, opened again if it was parked. Raises `HostFileError`."""
        parked = self._parked.get(key)
        if parked is not None:
            self._files[key] = parked.opened()
            del self._parked[key]
            self._park_others(key)
        return self._files.get(key)

    def _add(self, file: _Held) -> None:
        if self._most is not None and len(self._files) + len(self._parked) >= self._most:
            file.close()
        else:
            self._files[file.key] = file
            self._park_others(file.key)

    def _park_others(self, key: Key) -> None:
        """Parks files that nobody uses, but not that of `key`, until few are open. Makes room for those that have to stay."""
        for other, file in list(self._files.items())[: max(0, len(self._files) - _MOST_OPEN)]:
            if other != key and (parked := file.parked()) is not None:
                self._parked[other] = parked
                self._files.pop(other).leave_locks()
        if len(self._files) > _MOST_OPEN:
            _allow_descriptors(len(self._files))

    def _writer(self, name: PathName, key: Key) -> HostFile:
        """Opens a held file for writing, once if few are written to; else its borrower has to close it."""
        file = self._writers.get(key) or HostFile.open(name, writable=True, lock=None)
        if len(self._writers) < _MOST_WRITERS:
            self._writers[key] = file
        return file


def _key_at(name: PathName) -> Key | None:
    try:
        info = os.stat(name)
    except (OSError, ValueError):  # opening it reports what is wrong with the name
        return None
    return info.st_dev, info.st_ino


def _allow_descriptors(count: int) -> None:
    """Raises this process's own limit of open files, as far as the host lets it, so that `count` and some more may be open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _OTHER_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class _Held(HostFile):
    """A file that is held: a lock that allows as much as the one that is asked for stays."""

    borrowers = 0
    _needs_descriptor = False

    def lock(self, mode: LockMode) -> None:
        if self._lock_mode is None or not self._lock_mode.covers(mode):
            super().lock(mode)

    def hold_beside(self, mode: LockMode) -> None:
        """Takes the locks of `mode`, which this process has on the file already. Raises `HostFileError`."""
        hold_beside(self.fd, mode, self.name)
        self._lock_mode, self._locked_by = mode, os.getpid()

    def parked(self) -> _Parked | None:
        """Returns the file with its locks and without its descriptor, None if it is lent or its locks need the descriptor."""
        if self.borrowers or self._needs_descriptor or self._lock_mode is None:
            return None
        if not outlive_descriptors(self.fd, self.name):
            self._needs_descriptor = True
            return None
        return _Parked(self.name, self.key, self._lock_mode, MappedLocks(self.fd))

    def leave_locks(self) -> None:
        """Closes the descriptor alone: the file was parked."""
        fd, self.fd = self.fd, -1
        os.close(fd)


class _Parked(NamedTuple):
    """A file that is held without a descriptor."""

    name: str
    key: Key
    mode: LockMode
    locks: MappedLocks

    def opened(self) -> _Held:
        """Returns the file, open for reading and with the same locks, which nobody could take in between."""
        file = _Held.open(self.name, lock=None)
        try:
            if file.key != self.key:
                raise HostFileError(self.name, "open again", OSError(errno.ESTALE, "another file has taken its name"))
            file.hold_beside(self.mode)
        except BaseException:
            file.close()
            raise
        self.locks.close()
        return file

    def close(self) -> None:
        """Gives up the locks."""
        self.locks.close()


class _Lent(HostFile):
    """A held file, under the name by which somebody asked for it; `closes`: the descriptor is the borrower's own."""

    def __init__(self, name: str, fd: int, holder: _Held, *, writable: bool, closes: bool) -> None:
        super().__init__(name, fd, writable=writable)
        self._holder, self._closes = holder, closes
        holder.borrowers += 1

    def lock(self, mode: LockMode) -> None:
        self._holder.lock(mode)

    def close(self) -> None:
        if self.closed:
            return
        self._holder.borrowers -= 1
        if self._closes:
            super().close()
        self.fd = -1
