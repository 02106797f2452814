"""The free space of the host's file systems."""

from __future__ import annotations

import os

from cowherd.errors import HostFileError, NotEnoughSpace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def check_space(growth: Iterable[tuple[Path, int]]) -> None:
    """Raises `NotEnoughSpace` if a file system has too little room for the `growth` of files on it: (path on it, bytes) pairs.

    Raises `HostFileError` for a path that can't be looked at.
    """
    needed: dict[int, int] = {}
    for path, new_bytes in growth:
        try:
            device = os.stat(path).st_dev
        except OSError as error:
            raise HostFileError(path, "look at", error) from error
        needed[device] = needed.get(device, 0) + new_bytes
        free = free_bytes(path)
        if needed[device] > free:
            raise NotEnoughSpace(path, needed[device], free)


def free_bytes(path: Path) -> int:
    """Returns the bytes that this user may still use on the file system of `path`. Raises `HostFileError`."""
    found = _file_system(path)
    return found.f_bavail * found.f_frsize


def fill_of(path: Path) -> float:
    """Returns which part of the room that this user may use on the file system of `path` is taken, from 0 to 1, as df does.

    Raises `HostFileError`.
    """
    found = _file_system(path)
    used = found.f_blocks - found.f_bfree
    return used / (used + found.f_bavail) if used + found.f_bavail else 0.0


def _file_system(path: Path) -> os.statvfs_result:
    try:
        return os.statvfs(path)
    except OSError as error:
        raise HostFileError(path, "find the free space of", error) from error
