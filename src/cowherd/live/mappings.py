"""Finds the files that a process has mapped into its memory, which it may have without a descriptor (proc_pid_maps(5))."""

from __future__ import annotations

import contextlib
import os
import stat

from cowherd.live.kernel_holders import FILE, Key, key_of
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_NO_FILE = b" 00:00 0 "


class Mapping(NamedTuple):
    """A file in a process's memory: `path` is the kernel's name for it, `place` the name in /proc that leads to the file itself.

    `device` and `inode` are as /proc has them; the device may differ from that of stat(2), as with btrfs. `writing` says that the
    mapping writes to the file: only a writable, shared one does.
    """

    device: int
    inode: int
    path: str
    place: str
    writing: bool

    def key(self) -> Key | None:
        """Returns the key of the file, None if it is no regular file or can't be looked at."""
        for name in self._names():
            with contextlib.suppress(OSError, ValueError):
                info = os.stat(name)
                if stat.S_ISREG(info.st_mode) and info.st_ino == self.inode:
                    return key_of(info)
        return None

    def leading(self) -> str:
        """Returns a name under which this process can open the file: `place`, or its own name if only root may follow `place`."""
        return next(filter(os.path.exists, self._names()), self.place)

    def _names(self) -> tuple[str, str]:
        home = self.place.rpartition("/map_files/")[0]
        return self.place, f"{home}/root{self.path}"

    def is_of(self, key: Key) -> bool:
        """Returns whether this is a mapping of the file with that key."""
        return self.inode == key[2] and (self.device == key[1] or self.key() == key)


def mapped(home: str, wanted: Collection[Key]) -> dict[Key, bool]:
    """Returns which of `wanted` the process with the directory `home` in /proc has mapped, and whether a mapping writes to it.

    Raises `PermissionError` if this user may not look into it.
    """
    found: dict[Key, bool] = {}
    tokens = {b" %d " % key[2]: key[2] for key in wanted if key[0] == FILE}
    for one in mappings(home, tokens) if tokens else ():
        for key in wanted:
            if one.is_of(key):
                found[key] = found.get(key, False) or one.writing
    return found


def mappings(home: str, tokens: Collection[bytes] | None = None) -> Iterator[Mapping]:
    """Yields the mappings of files of the process with the directory `home` in /proc, nothing if it has ended.

    Of several mappings of a file that are alike, one is enough. With `tokens`, yields only those whose line holds one of these
    texts. Raises `PermissionError` if this user may not look in.
    """
    try:
        with open(f"{home}/maps", "rb") as lines:
            maps = lines.read()
    except PermissionError:
        raise
    except OSError:
        return
    met = None if tokens is None else [token for token in tokens if token in maps]
    seen = set()
    for line in maps.splitlines() if met != [] else ():
        if _NO_FILE not in line and (met is None or any(token in line for token in met)):
            place, access, _, file = line.split(b" ", 3)
            writing = access[1:4:2] == b"ws"
            if (file, writing) not in seen:
                seen.add((file, writing))
                yield _mapping(f"{home}/map_files/{os.fsdecode(place)}", file, writing=writing)


def _mapping(place: str, file: bytes, *, writing: bool) -> Mapping:
    """Reads the end of a line such as `7f00-7f10 rw-s 00000000 fe:00 2156785    /srv/disk`."""
    device, inode, *path = file.split(None, 2)
    major, _, minor = device.partition(b":")
    return Mapping(os.makedev(int(major, 16), int(minor, 16)), int(inode), os.fsdecode(path[0]) if path else "", place, writing)
