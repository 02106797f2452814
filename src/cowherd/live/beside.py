"""Finds the other files that are open in the processes that have a file open: a machine has its whole chain open at once."""

from __future__ import annotations

import contextlib
import os

from cowherd.errors import HostFileError
from cowherd.live.holders import PROC, descriptors, own_number, processes
from cowherd.live.kernel_holders import FILE, key_of
from cowherd.storage.leases import openings, openings_beside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cowherd.storage.holding import Holding


def open_beside(paths: Iterable[str], held: Holding | None = None) -> list[str]:
    """Returns the names of all regular files that are open in any process with one of `paths` open, those paths included.

    A file of another mount namespace is named through /proc. If nobody has any of them open, looks into no process; leaves out
    processes that it may not look into. The descriptors of files that the caller holds do not count. Raises `HostFileError` only
    for a held file that can't be opened again.
    """
    wanted = set()
    for path in paths:
        try:
            info = os.stat(path)
        except (OSError, ValueError):  # it is not there: nobody has it open
            continue
        fd = held.reader((info.st_dev, info.st_ino)) if held is not None else None
        with contextlib.suppress(OSError):  # it went meanwhile
            found = openings(path) if fd is None else openings_beside(fd)
            if found is None or found.any:
                wanted.add(key_of(info))
    if not wanted:
        return []
    names: dict[str, None] = {}
    try:
        this = own_number()
        for pid in processes():
            if pid != this:
                names |= _open_in(pid, wanted)
    except HostFileError:
        return []  # there is no /proc
    return list(names)


def _open_in(pid: int, wanted: set[tuple[str, int, int]]) -> dict[str, None]:
    try:
        held = list(descriptors(pid))
    except PermissionError:
        return {}
    if not any(key in wanted for _, key in held):
        return {}
    return {name: None for number, key in held if key[0] == FILE and (name := _name_of(pid, number, key))}


def _name_of(pid: int, number: str, key: tuple[str, int, int]) -> str | None:
    """Returns a name under which this process finds the file of a descriptor, None if the file has no such name any more."""
    try:
        path = os.readlink(f"{PROC}/{pid}/fd/{number}")
    except OSError:
        return None
    for name in (path, f"{PROC}/{pid}/root{path}"):
        with contextlib.suppress(OSError, ValueError):
            if key_of(os.stat(name)) == key:
                return name
    return None
