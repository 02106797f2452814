"""The files of the log: `log/changes.jsonl` in the host's state directory, and `changes.1.jsonl`, which it was before.

A line is added with one write at the end of the file, so that commands at work at once lose none, and it is not made durable: it
is worth nothing to the work. Nobody but its user may write there; what others could have put in its place is left alone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat

from cowherd.herd.log.entry import from_line, mark_of, mark_of_file
from cowherd.herd.records.ownership import OTHERS_MAY_WRITE
from cowherd.storage.reads import read_range
from cowherd.storage.state import state_directories
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from cowherd.herd.log.entry import Entry

_DIRECTORY, _FILE, _BEFORE = "log", "changes.jsonl", "changes.1.jsonl"
_MOST_BYTES = 2 << 20
_NEW, _OLD = os.O_WRONLY | os.O_APPEND | os.O_CREAT, os.O_RDONLY
_SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def append(lines: bytes) -> None:
    """Adds lines to this user's log, and keeps it below 5 MiB. Without a state directory it does nothing. Raises OSError."""
    for home in state_directories()[:1]:
        directory = os.path.join(home, _DIRECTORY)
        os.makedirs(home, 0o755 if os.geteuid() == 0 else 0o700, exist_ok=True)  # as where seals are kept
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o700)
        _require_own(os.lstat(directory), directory, stat.S_IFDIR, os.geteuid())
        _append(directory, lines)


def _append(directory: str, lines: bytes) -> None:
    path = os.path.join(directory, _FILE)
    with _opened(path, _NEW, os.geteuid()) as fd:
        if os.fstat(fd).st_size <= _MOST_BYTES or not _put_aside(fd, path):
            os.write(fd, lines)
            return
    with _opened(path, _NEW, os.geteuid()) as fd:
        os.write(fd, lines)


def _put_aside(fd: int, path: str) -> bool:
    """Gives a full log its second name. Returns False if another process does so now: then its line goes where it has it open."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    if os.path.samestat(os.fstat(fd), os.lstat(path)):  # else somebody has done it meanwhile
        os.replace(path, os.path.join(os.path.dirname(path), _BEFORE))
    return True


@contextlib.contextmanager
def _opened(path: str, flags: int, *owners: int) -> Iterator[int]:
    fd = os.open(path, flags | _SAFELY, 0o600)
    try:
        _require_own(os.fstat(fd), path, stat.S_IFREG, *owners)
        yield fd
    finally:
        os.close(fd)


def _require_own(info: os.stat_result, path: str, kind: int, *owners: int) -> None:
    """Raises PermissionError unless it is of that kind, belongs to one of `owners`, and nobody else may write to it. A file must
    have no second name, under which it would be something else."""
    is_linked = kind == stat.S_IFREG and info.st_nlink != 1
    if stat.S_IFMT(info.st_mode) != kind or info.st_uid not in owners or info.st_mode & OTHERS_MAY_WRITE or is_linked:
        raise PermissionError(errno.EPERM, "it is not what cowherd makes there, or others may write to it", path)


class LogUnread(NamedTuple):
    """A log that can't be read: its path, and why."""

    path: str
    problem: str


def read(commands: Collection[str] = (), *, inode: int | None = None) -> tuple[list[Entry], list[LogUnread]]:
    """Returns the entries of this user's log and of root's, oldest first, only those about `commands` if some are given; and the
    logs that are there and can't be read. A line that makes no sense is left out. With `inode` those that name no file of that
    number may be left out, too, which saves the time of reading them."""
    marks = [mark_of(command) for command in commands]
    named = b"" if inode is None else mark_of_file(inode)
    entries: list[Entry] = []
    unread: list[LogUnread] = []
    for home in state_directories():
        directory = os.path.join(home, _DIRECTORY)
        try:
            _require_own(os.lstat(directory), directory, stat.S_IFDIR, 0, os.geteuid())
            lines = [line for name in (_BEFORE, _FILE) for line in _lines(os.path.join(directory, name))]
        except FileNotFoundError:
            continue
        except OSError as error:
            unread.append(LogUnread(directory, error.strerror or str(error)))
            continue
        entries += _entries(line for line in lines if named in line and (not marks or any(mark in line for mark in marks)))
    return sorted(entries, key=lambda entry: entry.time), unread


def _lines(path: str) -> list[bytes]:
    try:
        with _opened(path, _OLD, 0, os.geteuid()) as fd:
            return _last_bytes(fd).splitlines()
    except FileNotFoundError:  # nothing was done yet, or it was never full
        return []


def _last_bytes(fd: int) -> bytes:
    """Returns the end of a file, as much as a log may have: one that has grown beyond that is none of cowherd's."""
    most = 2 * _MOST_BYTES
    return read_range(fd, max(0, os.fstat(fd).st_size - most), most)


def _entries(lines: Iterable[bytes]) -> Iterator[Entry]:
    for line in lines:
        with contextlib.suppress(ValueError):  # cut short by a full disk, or written by hand
            yield from_line(line)
