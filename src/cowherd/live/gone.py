"""Files that were deleted while a process has them open: another file may have their names by now.

A machine that runs on one notices nothing, and all that it writes is lost when it stops. Until then /proc/PID/fd/N still leads to
the file. Source: proc_pid_fd(5).
"""

from __future__ import annotations

import os
import stat

from cowherd.live.holders import PROC
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.live.holders import Holder
    from cowherd.live.kernel_holders import Key

DELETED = " (deleted)"
LAST_STREAM = 2  # standard input and output may lead to files that were deleted on purpose


class GoneDisk(NamedTuple):
    """A deleted file that a machine has open: its former path, its holder, and the name under which it can still be read.

    `replaced` says that another file has its name now. `size` is its length in bytes, `key` tells it from all other files.
    """

    path: str
    holder: Holder
    descriptor: str
    replaced: bool
    size: int
    key: Key


def former_path(target: str, info: os.stat_result) -> str | None:
    """Returns the former path of an open file that has no name any more, None if it has one.

    `target` is where the link of its descriptor leads, by the kernel's account; `info` is the result of stat(2).
    """
    return target.removesuffix(DELETED) if target.endswith(DELETED) and info.st_nlink == 0 else None


def has_successor(pid: int, path: str) -> bool:
    """Returns whether a file has the former path of a file that was deleted under a process, looked up in the process's root.

    `path` is what /proc says. That is as we call the file: with the process's root, if that is one of its own, in front; without
    it if the process opened the file before it changed its root.
    """
    root = f"{PROC}/{pid}/root"
    try:
        top = os.readlink(root)
    except OSError:  # it has ended
        top = "/"
    if top == "/":
        return os.path.lexists(root + path)
    return os.path.lexists(root + path.removeprefix(top) if path.startswith(f"{top}/") else path)


def is_temporary(path: str) -> bool:
    """Returns whether a file was temporary from the start: nameless (open(2), O_TMPFILE), or that of QEMU's snapshot=on."""
    name = os.path.basename(path)
    return name.removeprefix("#").isdecimal() or (name.startswith("vl.") and len(name) == len("vl.XXXXXX"))


def lost_path(pid: int, descriptor: str, info: os.stat_result) -> str | None:
    """Returns the former path of a deleted file that a machine has open and may have as a disk, None for every other file.

    Raises `OSError` if the descriptor was closed meanwhile.
    """
    if info.st_nlink or not stat.S_ISREG(info.st_mode) or int(descriptor) <= LAST_STREAM:
        return None
    path = former_path(os.readlink(f"{PROC}/{pid}/fd/{descriptor}"), info)
    return path if path and path.startswith("/") and not is_temporary(path) else None
