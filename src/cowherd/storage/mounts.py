"""The file systems that this process sees, as the kernel lists them."""

from __future__ import annotations

import os

from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MOUNTS = "/proc/self/mountinfo"


class Mount(NamedTuple):
    """A file system: its device number as in stat(2), the directory that it is seen in, and its type."""

    device: int
    point: bytes
    type: str


def mounts(table: str | os.PathLike[str] = MOUNTS) -> Iterator[Mount]:
    """Yields what is mounted, in the table's order (proc_pid_mountinfo(5)). Raises OSError where that can't be read."""
    with open(table, "rb") as file:
        lines = file.read().splitlines()
    for line in lines:
        fields = line.split(b" ")
        major, minor = map(int, fields[2].split(b":"))
        yield Mount(os.makedev(major, minor), _unescaped(fields[4]), os.fsdecode(fields[fields.index(b"-") + 1]))


def _unescaped(name: bytes) -> bytes:
    """The kernel writes blanks and backslashes as octal numbers."""
    if b"\\" not in name:
        return name
    import re

    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), name)
