"""What earlier looks at this host found: in which directories overlays of the bases in a directory lay.

A directory of small files, one for each directory of bases, named by the inode number of that directory, which is the same under
every mount. A line is a JSON array: [directory of the overlay, where its file system was mounted, name of the base's file, an
overlay there]. Files named by the inode number of a base that has several names hold those names, in the same form.
Lines are appended, so that processes at work at once lose none. All of it may be thrown away: it says where to look, and what is
found there is read again before it counts.
"""

from __future__ import annotations

import fcntl
import functools
import os
import stat

from cowherd.herd.records.ownership import OTHERS_MAY_WRITE
from cowherd.jsontext import read_json, write_json
from cowherd.paths import lies_in
from cowherd.storage.mounts import mount_of, mounts
from cowherd.storage.state import state_directories
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from cowherd.storage.mounts import Mount

_NAME = "overlays"
_LINKS = "links-"
_MOST_BYTES = 64 << 20


class Remembered(NamedTuple):
    """A directory in which overlays of a base lay; all are paths but `base`, the name of the base's file.

    `mount` is the directory on which its file system was mounted, `example` an overlay that lay there.
    """

    directory: str
    mount: str
    base: str
    example: str


class Memory:
    """This user's memory of this host; where there is none, nothing is known and nothing is remembered."""

    def __init__(self) -> None:
        self._home = _trusted(memory_directory())
        self._names = _names_in(self._home) if self._home else frozenset()
        self._read: dict[str, tuple[Remembered, ...]] = {}

    def recall(self, directory: str) -> tuple[Remembered, ...]:
        """Returns where overlays of the bases in a directory lay at earlier looks, as the memory was when first read."""
        return self._lines(_name_of(directory)) if self._names else ()

    def recall_links(self, inode: int) -> tuple[Remembered, ...]:
        """Returns the names of bases that were hard links of a file with that inode number."""
        return self._lines(f"{_LINKS}{inode}")

    def remember(self, directory: str, found: Mapping[tuple[str, str], str]) -> None:
        """Adds what is new about the bases in a directory.

        `found` maps a directory in which overlays lie, together with the name of their base's file, to one overlay there.
        """
        if found:
            self._add(_name_of(directory), found)

    def remember_link(self, inode: int, base: str, overlay: str = "") -> None:
        """Adds the path of a base that has several names, and of an overlay that names it by that path, if one is known."""
        self._add(f"{_LINKS}{inode}", {os.path.split(base): overlay})

    def _lines(self, name: str | None) -> tuple[Remembered, ...]:
        if self._home is None or name is None or name not in self._names:
            return ()
        known = self._read.get(name)
        if known is None:
            known = self._read[name] = tuple(dict.fromkeys(_lines_in(os.path.join(self._home, name))))
        return known

    def _add(self, name: str | None, found: Mapping[tuple[str, str], str]) -> None:
        new = sorted(found.keys() - {(one.directory, one.base) for one in self._lines(name)})
        if new and name is not None:
            self._append(name, [Remembered(place, mount_point_of(place), base, found[place, base]) for place, base in new])

    def _append(self, name: str, new: list[Remembered]) -> None:
        home = self._home or _made(memory_directory())
        if home is None:
            return
        try:
            with open(os.path.join(home, name), "ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # nobody rewrites it meanwhile
                file.write(b"".join(map(_line, new)))
        except OSError:
            return  # the disk may be full: the next look goes only to the usual places
        self._home, self._names = home, self._names | {name}
        self._read.pop(name, None)

    def forget(self, directory: str, gone: Iterable[Remembered]) -> None:
        """Removes lines that have turned out to be true no longer."""
        name, lost = _name_of(directory), set(gone)
        if name in self._names:
            self._rewrite(name, lambda one: one not in lost)

    def give_up(self, place: str) -> int:
        """Removes all that is known of a directory and of those under it; returns the number of lines removed."""
        return sum(self._rewrite(name, lambda one: not lies_in(one.directory, place)) for name in sorted(self._names))

    def _rewrite(self, name: str, keep: Callable[[Remembered], bool]) -> int:
        """Keeps the lines of a file that `keep` accepts; returns the number of lines removed."""
        if self._home is None:
            return 0
        self._read.pop(name, None)
        try:
            with open(os.path.join(self._home, name), "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                known = list(dict.fromkeys(_parsed(file.read(_MOST_BYTES))))
                kept = list(filter(keep, known))
                file.seek(0)
                file.write(b"".join(map(_line, kept)))
                file.truncate()
                return len(known) - len(kept)
        except OSError:
            return 0  # it is forgotten the next time


def memory_directory() -> str | None:
    """Returns the directory of the memory: beside a named catalog, or in the user's state directory (root's is the system's).

    None where there is none: where COWHERD_CATALOG or COWHERD_STATE says "off".
    """
    named = os.environ.get("COWHERD_CATALOG", "")
    if named:
        return None if named == "off" else f"{os.path.abspath(named)}.{_NAME}"
    own = state_directories()[:1]
    return os.path.join(own[0], _NAME) if own else None


def inode_of_links(path: str) -> int | None:
    """Returns the inode number of a file that has several names, None of any other."""
    try:
        info = os.stat(path)
    except (OSError, ValueError):
        return None
    return info.st_ino if info.st_nlink > 1 and stat.S_ISREG(info.st_mode) else None


@functools.lru_cache(maxsize=1)
def mount_table() -> tuple[Mount, ...]:
    """Returns the mounts, as they were when this process first asked; nothing where they can't be read."""
    try:
        return tuple(mounts())
    except OSError:
        return ()


def mount_point_of(directory: str) -> str:
    """Returns the directory on which the file system of a path without symbolic links is mounted."""
    mount = mount_of(directory, mount_table())
    return os.fsdecode(mount.point) if mount else "/"


def _trusted(home: str | None) -> str | None:
    """Returns the directory if it is there and nobody but its user can write to it."""
    if home is None:
        return None
    try:
        info = os.lstat(home)
    except (OSError, ValueError):
        return None
    ours = stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid() and not info.st_mode & OTHERS_MAY_WRITE
    return home if ours else None


def _made(home: str | None) -> str | None:
    if home is None:
        return None
    try:
        os.makedirs(os.path.dirname(home), exist_ok=True)
        os.mkdir(home, 0o700)
    except FileExistsError:
        return _trusted(home)
    except OSError:
        return None  # a place that can't be written to: nothing is remembered
    return home


def _names_in(home: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(home))
    except OSError:
        return frozenset()


def _name_of(directory: str) -> str | None:
    try:
        return str(os.stat(directory).st_ino)
    except OSError:
        return None


def _lines_in(path: str) -> list[Remembered]:
    try:
        with open(path, "rb") as file:
            return _parsed(file.read(_MOST_BYTES))
    except OSError:
        return []


def _parsed(data: bytes) -> list[Remembered]:
    """Reads lines; one that was cut short, or makes no sense, says nothing."""
    lines = data.splitlines()
    try:
        read = read_json(b"[%s]" % b",".join(lines))  # all at once, which takes a third of the time
    except (ValueError, RecursionError):
        read = map(_value, lines)
    return [one for fields in read if (one := _remembered(fields))]


def _value(line: bytes) -> object:
    try:
        return read_json(line)
    except (ValueError, RecursionError):
        return None


def _remembered(fields: object) -> Remembered | None:
    if not isinstance(fields, list) or len(fields) != len(Remembered._fields):
        return None
    if not all(isinstance(field, str) and "\0" not in field for field in fields) or not os.path.isabs(fields[0]):
        return None
    return Remembered(*fields)


def _line(one: Remembered) -> bytes:
    return write_json(one).encode("ascii") + b"\n"  # this escapes surrogates in names that are no text
