"""Records what a job does to the files under a directory, in order, as changes that a power cut may or may not let through."""

from __future__ import annotations

import contextlib
import linecache
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.reliability.calls import CHANGING, CLONE_RANGE, FICLONE, FICLONERANGE, REAL, Call, interposed
from tests.reliability.world import ROOT, Identities, Node, World

SETFLAGS = 0x40086602
_KEEP_SIZE = 0x01


@dataclass(frozen=True)
class Change:
    """One change of the file `node`; `times` are the file's mtime and ctime after it."""

    node: int
    times: tuple[int, int]


@dataclass(frozen=True)
class Data(Change):
    """Bytes were written."""

    offset: int
    data: bytes


@dataclass(frozen=True)
class Size(Change):
    """The file got another length."""

    size: int


@dataclass(frozen=True)
class Hole(Change):
    """A range was made zeros; the length stays."""

    offset: int
    length: int


@dataclass(frozen=True)
class Mode(Change):
    """The file got other permission bits."""

    mode: int


@dataclass(frozen=True)
class Names:
    """Names were given and taken, all or none of them: (directory, name, node, whether it leads there from now on)."""

    changes: tuple[tuple[int, str, int, bool], ...]

    @property
    def directories(self) -> frozenset[int]:
        """Those that must be flushed for it to be durable; one of them is enough."""
        return frozenset(directory for directory, *_ in self.changes)


@dataclass(frozen=True)
class Sync:
    """A file was flushed: its bytes and length, and with `whole` also its times and permission bits. Or a directory's names."""

    node: int
    whole: bool
    site: str = field(default="", compare=False)
    """Which line of cowherd asked for it, as `module.function`, and the line's text."""


Event = Data | Size | Hole | Mode | Names | Sync


class Recorder:
    """Records while `recording` lasts."""

    def __init__(self, root: Path, before: World):
        self.root = root
        self.log: list[Event] = []
        self.nodes = dict(before.nodes)
        """All files that were there at any time; those that the job made are empty as they were when they were made."""
        self._ids = {(os.lstat(root).st_dev, node.number): number for number, node in before.nodes.items()}
        self._lock = threading.Lock()
        self._kept: list[int] = []
        self._told: Callable[[os.stat_result], os.stat_result] = lambda info: info

    @classmethod
    def resumed(cls, root: Path, world: World, nodes: dict[int, Node], identities: Identities) -> Recorder:
        """One that goes on from a tree that was laid out under `root`; `nodes` are all that earlier runs made."""
        recorder = cls(root, World())
        recorder._told = identities.told
        recorder.nodes = dict(nodes)
        for path, number in {root: ROOT, **world.places(root)}.items():
            info = REAL.lstat(path)
            recorder._ids[info.st_dev, info.st_ino] = number
        return recorder

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Records what the block does. Files keep their inodes' numbers to themselves until `release`."""
        for path in self.root.rglob("*"):
            self._keep(path)
        with interposed(self._handle):
            yield

    def release(self) -> None:
        """Lets the numbers of inodes be given to others again."""
        while self._kept:
            os.close(self._kept.pop())

    def _keep(self, path: Path | str) -> None:
        self._kept.append(REAL.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC))

    def _handle(self, name: str, call: Call, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        handler = getattr(self, f"_{name}", None)
        with self._lock:
            if handler is not None:
                return handler(call, *arguments, **options)
            assert name not in CHANGING, f"os.{name} changes files, and is not recorded"
            return call(*arguments, **options)

    def _file(self, fd: int) -> int | None:
        """The id of an open file or directory; None for what lies elsewhere."""
        info = REAL.fstat(fd)
        return self._ids.get((info.st_dev, info.st_ino))

    def _times(self, fd: int) -> tuple[int, int]:
        info = self._told(REAL.fstat(fd))
        return info.st_mtime_ns, info.st_ctime_ns

    def _place(self, path: Any, dir_fd: int | None = None) -> tuple[int, str] | None:
        """The (directory, name) that a path stands for; None for what lies elsewhere."""
        text = os.fsdecode(path)
        if dir_fd is not None:
            text = os.path.join(REAL.readlink(f"/proc/self/fd/{dir_fd}"), text)
        parent, name = os.path.split(os.path.abspath(text))
        try:
            info = REAL.stat(parent)
        except OSError:
            return None
        directory = self._ids.get((info.st_dev, info.st_ino))
        return None if directory is None else (directory, name)

    def _node_at(self, path: Any, dir_fd: int | None = None) -> int | None:
        try:
            info = REAL.lstat(path, dir_fd=dir_fd)
        except OSError:
            return None
        return self._ids.get((info.st_dev, info.st_ino))

    def _made(self, path: Any, info: os.stat_result) -> int:
        """Takes note of a new file or directory."""
        number = len(self.nodes)
        data = None if stat.S_ISDIR(info.st_mode) else bytearray()
        times = info.st_mtime_ns, info.st_ctime_ns
        self.nodes[number] = Node(data, stat.S_IMODE(info.st_mode), info.st_ino, times)
        self._ids[info.st_dev, info.st_ino] = number
        self._keep(path)
        return number

    def _open(self, call: Call, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        place = self._place(path, dir_fd) if flags & os.O_CREAT else None
        new = place is not None and self._node_at(path, dir_fd) is None
        assert not flags & os.O_TRUNC
        fd: int = call(path, flags, mode, dir_fd=dir_fd)
        if new and place is not None:
            self.log.append(Names(((*place, self._made(path, REAL.fstat(fd)), True),)))
        return fd

    def _builtin_open(self, call: Call, path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        assert isinstance(path, int) or "r" in mode or self._place(path) is None, "open() is for reading only"
        return call(path, mode, *arguments, **options)

    def _pwritev(self, call: Call, fd: int, buffers: Any, offset: int) -> int:
        count: int = call(fd, buffers, offset)
        self._written(fd, offset, b"".join(bytes(buffer) for buffer in buffers)[:count])
        return count

    def _pwrite(self, call: Call, fd: int, data: Any, offset: int) -> int:
        count: int = call(fd, data, offset)
        self._written(fd, offset, bytes(data)[:count])
        return count

    def _write(self, call: Call, fd: int, data: Any) -> int:
        assert self._file(fd) is None, "files are written at positions"
        return int(call(fd, data))

    def _written(self, fd: int, offset: int, data: bytes) -> None:
        if (node := self._file(fd)) is not None:
            self.log.append(Data(node, self._times(fd), offset, data))

    def _ftruncate(self, call: Call, fd: int, size: int) -> None:
        call(fd, size)
        if (node := self._file(fd)) is not None:
            self.log.append(Size(node, self._times(fd), size))

    def _posix_fallocate(self, call: Call, fd: int, offset: int, length: int) -> None:
        before = REAL.fstat(fd).st_size
        call(fd, offset, length)
        if (node := self._file(fd)) is not None and offset + length > before:
            self.log.append(Size(node, self._times(fd), offset + length))

    def _fallocate(self, call: Call, fd: int, mode: int, offset: int, length: int) -> int:
        error: int = call(fd, mode, offset, length)
        if not error and (node := self._file(fd)) is not None:
            assert mode & _KEEP_SIZE
            self.log.append(Hole(node, self._times(fd), offset, length))
        return error

    def _copy_file_range(self, call: Call, source: int, target: int, count: int, start: int, to: int) -> int:
        done: int = call(source, target, count, start, to)
        self._written(target, to, REAL.pread(target, done, to))
        return done

    def _ioctl(self, call: Call, fd: int, request: int, argument: Any = 0, *more: Any) -> Any:
        answer = call(fd, request, argument, *more)
        node = self._file(fd)
        assert request != SETFLAGS or node is None, "the immutable attribute is not modelled"
        if node is not None and request in (FICLONE, FICLONERANGE):
            start, length = (0, REAL.fstat(fd).st_size) if request == FICLONE else CLONE_RANGE.unpack(argument)[:1:-1]
            self._written(fd, start, REAL.pread(fd, length, start))
        return answer

    def _fsync(self, call: Call, fd: int) -> None:
        call(fd)
        self._synced(fd, whole=True)

    def _fdatasync(self, call: Call, fd: int) -> None:
        call(fd)
        self._synced(fd, whole=False)

    def _synced(self, fd: int, *, whole: bool) -> None:
        if (node := self._file(fd)) is not None:
            self.log.append(Sync(node, whole, _asking_line()))

    def _rename(self, call: Call, source: Any, target: Any) -> None:
        old, new, node = self._place(source), self._place(target), self._node_at(source)
        replaced = self._node_at(target)
        call(source, target)
        assert (old is None) == (new is None)
        if old and new and node is not None and replaced != node:
            self.log.append(Names(((*old, node, False), (*new, node, True))))

    _replace = _rename

    def _link(self, call: Call, source: Any, target: Any, *, follow_symlinks: bool = True) -> None:
        node, place = self._node_at(source), self._place(target)
        call(source, target, follow_symlinks=follow_symlinks)
        if node is not None and place:
            self.log.append(Names(((*place, node, True),)))

    def _unlink(self, call: Call, path: Any, *, dir_fd: int | None = None) -> None:
        node, place = self._node_at(path, dir_fd), self._place(path, dir_fd)
        call(path, dir_fd=dir_fd)
        if node is not None and place:
            self.log.append(Names(((*place, node, False),)))

    _remove = _unlink
    _rmdir = _unlink

    def _mkdir(self, call: Call, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        call(path, mode, dir_fd=dir_fd)
        if place := self._place(path, dir_fd):
            self.log.append(Names(((*place, self._made(path, REAL.lstat(path)), True),)))

    def _fchmod(self, call: Call, fd: int, mode: int) -> None:
        call(fd, mode)
        if (node := self._file(fd)) is not None:
            self.log.append(Mode(node, self._times(fd), stat.S_IMODE(mode)))

    def _chmod(self, call: Call, path: Any, mode: int, **options: Any) -> None:
        call(path, mode, **options)
        node = self._node_at(path)
        if node is not None and self.nodes[node].data is not None:
            info = self._told(REAL.lstat(path))
            self.log.append(Mode(node, (info.st_mtime_ns, info.st_ctime_ns), stat.S_IMODE(mode)))

    def _utime(self, call: Call, path: Any, *arguments: Any, **options: Any) -> None:
        call(path, *arguments, **options)
        assert isinstance(path, int)
        if (node := self._file(path)) is not None:
            self.log.append(Mode(node, self._times(path), stat.S_IMODE(REAL.fstat(path).st_mode)))

    def _chown(self, call: Call, path: Any, uid: int, gid: int, **options: Any) -> None:
        call(path, uid, gid, **options)  # owners are not modelled

    _fchown = _chown
    _lchown = _chown


_MERE_MEANS = (
    "flush",
    "sync_directory",
    "make_name_lasting",
    "_flush",
    "_sync",
    "make_lasting",
    "announce_change",
    "make_durable",
)
"""Functions of `cowherd.storage` that flush for somebody; who called them is of interest."""


def _asking_line() -> str:
    frame = sys._getframe(1)
    while frame.f_back is not None:
        code, module = frame.f_code, frame.f_globals.get("__name__", "")
        means = module.startswith("cowherd.storage.") and code.co_name in _MERE_MEANS
        if module.startswith("cowherd.") and not means:
            line = linecache.getline(code.co_filename, frame.f_lineno).strip()
            return f"{module.removeprefix('cowherd.')}.{code.co_name}:{frame.f_lineno}: {line}"
        frame = frame.f_back
    return ""
