"""The file systems that this process sees, as the kernel lists them."""

from __future__ import annotations

import os

from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cowherd.paths import PathName

MOUNTS = "/proc/self/mountinfo"


class Mount(NamedTuple):
    """A mounted file system: its device number as in stat(2), its mount point, its type, and which of its directories is mounted
    there ("/" unless it is only a part)."""

    device: int
    point: bytes
    type: str
    root: bytes = b"/"


def mounts(table: PathName = MOUNTS) -> Iterator[Mount]:
    """Yields the mounts in the table's order (proc_pid_mountinfo(5)). Raises OSError if the table can't be read."""
    with open(table, "rb") as file:
        lines = file.read().splitlines()
    for line in lines:
        fields = line.split(b" ")
        major, minor = map(int, fields[2].split(b":"))
        kind = os.fsdecode(fields[fields.index(b"-") + 1])
        yield Mount(os.makedev(major, minor), _unescaped(fields[4]), kind, _unescaped(fields[3]))


def mount_of(path: PathName, table: Sequence[Mount]) -> Mount | None:
    """Returns the mount of `table` on which `path` lies, which is absolute and without symbolic links; None for an empty table.

    Of several mounts on one directory, the last counts. If there is nothing at `path`, it is the mount on which it would lie.
    """
    name, best = os.fsencode(path), None
    for mount in table:
        if lies_in(name, mount.point) and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def lies_in(path: bytes, directory: bytes) -> bool:
    """Returns whether an absolute path is `directory` or lies under it."""
    return path == directory or path.startswith(directory.rstrip(b"/") + b"/")


def _unescaped(name: bytes) -> bytes:
    """Replaces the octal numbers by which the kernel writes blanks and backslashes."""
    if b"\\" not in name:
        return name
    import re

    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), name)
