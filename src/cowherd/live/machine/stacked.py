"""Block devices that consist of files: loop devices, their partitions, and devices of device mapper and md on top of them."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cowherd.paths import PathName

_SYS = Path("/sys/dev/block")
_DEEPEST = 16


def files_below(device: PathName) -> tuple[Path, ...]:
    """Returns the files that the kernel reads and writes for a block device, each once; none for a disk of the host itself.

    Source: Linux's Documentation/ABI/stable/sysfs-block (`slaves`) and testing/sysfs-block-loop (`backing_file`).
    """
    info = os.stat(device)
    if not stat.S_ISBLK(info.st_mode):
        return ()
    number = info.st_rdev
    return tuple(dict.fromkeys(_files(_SYS / f"{os.major(number)}:{os.minor(number)}", 0)))


def _files(home: Path, depth: int) -> Iterator[Path]:
    if depth > _DEEPEST:
        return
    with contextlib.suppress(OSError):  # it is no loop device, or was detached just now
        yield Path(os.fsdecode((home / "loop/backing_file").read_bytes()).removesuffix("\n"))
    if (home / "partition").exists():
        yield from _files(Path(os.path.realpath(home)).parent, depth + 1)
    slaves = home / "slaves"
    for slave in sorted(slaves.iterdir()) if slaves.is_dir() else ():
        yield from _files(slave, depth + 1)
