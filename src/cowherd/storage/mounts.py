"""The file systems that this process sees, as the kernel lists them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MOUNTS = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(rb"\\([0-7]{3})")


class Mount(NamedTuple):
    """A file system: its device number as in stat(2), the directory that it is seen in, and its type."""

    device: int
    point: bytes
    type: str


def mounts(table: Path = MOUNTS) -> Iterator[Mount]:
    """Yields what is mounted, in the table's order (proc_pid_mountinfo(5)). Raises OSError where that can't be read."""
    for line in table.read_bytes().splitlines():
        fields = line.split(b" ")
        major, minor = map(int, fields[2].split(b":"))
        point = _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), fields[4])
        yield Mount(os.makedev(major, minor), point, os.fsdecode(fields[fields.index(b"-") + 1]))
