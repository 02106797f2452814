"""Machines that run on a deleted disk: the file of their disk was deleted, and another file may have its name by now.

The guest notices nothing, and all that it writes is lost when it stops. Until then /proc/PID/fd/N still leads to the file.
"""

from __future__ import annotations

import contextlib
import os
import stat

from cowherd.live.holders import PROC, describe_process, flags_and_locks, processes, runs_machines
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cowherd.live.holders import Holder

DELETED = " (deleted)"
LAST_STREAM = 2  # standard input and output may lead to files that were deleted on purpose


class GoneDisk(NamedTuple):
    """A deleted file that a machine has open: its former path, its holder, and the name under which it can still be read.

    `replaced` says that another file has its name now. `size` is its length in bytes.
    """

    path: str
    holder: Holder
    descriptor: str
    replaced: bool
    size: int


def gone_disks() -> list[GoneDisk]:
    """Returns the deleted files that are open in programs which run machines, each of them once, if possible with a writer.

    Raises `HostFileError` if there is no /proc; leaves out processes that it may not look into.
    """
    found: dict[tuple[int, int], GoneDisk] = {}
    for pid in processes():
        if runs_machines(pid):
            for name, path, info in _deleted_in(pid):
                key = info.st_dev, info.st_ino
                writing = _is_written(pid, name)
                holder = describe_process(pid, writing=writing)
                if holder and (key not in found or (writing and not found[key].holder.writing)):
                    found[key] = GoneDisk(path, holder, f"{PROC}/{pid}/fd/{name}", os.path.lexists(path), info.st_size)
    return list(found.values())


def _deleted_in(pid: int) -> Iterator[tuple[str, str, os.stat_result]]:
    """Yields the deleted regular files that a process has open: descriptor, former path, stat(2) result."""
    place = f"{PROC}/{pid}/fd"
    with contextlib.suppress(OSError):  # it has ended, or may not be looked into
        for name in sorted(os.listdir(place), key=int):
            target = os.readlink(f"{place}/{name}")
            path = target.removesuffix(DELETED)
            if path.startswith("/") and path != target and int(name) > LAST_STREAM and not is_temporary(path):
                info = os.stat(f"{place}/{name}")
                if stat.S_ISREG(info.st_mode) and info.st_nlink == 0:
                    yield name, path, info


def is_temporary(path: str) -> bool:
    """Returns whether a file was temporary from the start: nameless (open(2), O_TMPFILE), or that of QEMU's snapshot=on."""
    name = os.path.basename(path)
    return name.removeprefix("#").isdecimal() or (name.startswith("vl.") and len(name) == len("vl.XXXXXX"))


def _is_written(pid: int, descriptor: str) -> bool:
    with contextlib.suppress(OSError):
        return flags_and_locks(f"{PROC}/{pid}/fdinfo/{descriptor}")[0]
    return False
