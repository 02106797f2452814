"""Whether a name is taken. A host that can't tell has not said no."""

from __future__ import annotations

import errno
import os
import stat

from cowherd.errors import HostFileError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from typing import TypeVar

    from cowherd.paths import PathName

    Name = TypeVar("Name", bound=PathName)

ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ENAMETOOLONG, errno.ELOOP)
"""What says that there is nothing under a name, or nothing that this user could get at."""

_NOTHING = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


def look_up(path: PathName, *, follow: bool = True, absent: Collection[int] = ABSENT) -> os.stat_result | None:
    """Returns what stat(2) says of a name, lstat without `follow`; None where the host says one of the `absent` errors.

    Raises `HostFileError` where it fails otherwise, as with an I/O error: os.path takes that for a no, and what goes by it would
    leave out a seal, or write over a file, that is there.
    """
    try:
        return os.stat(path) if follow else os.lstat(path)
    except OSError as error:
        if error.errno in absent:
            return None
        raise HostFileError(path, "look at", error) from error
    except ValueError:  # a zero byte
        return None


def is_there(path: PathName) -> bool:
    """Returns whether something has that name, be it a symbolic link that leads nowhere. Raises `HostFileError`."""
    return look_up(path, follow=False) is not None


def is_directory(path: PathName) -> bool:
    """Returns whether a name leads to a directory. Raises `HostFileError`."""
    info = look_up(path)
    return info is not None and stat.S_ISDIR(info.st_mode)


def require_directories(paths: Iterable[PathName]) -> None:
    """Raises `HostFileError` for the first of `paths` that leads to no directory: where nothing is, nothing can be fine."""
    for path in paths:
        info = look_up(path, absent=_NOTHING)
        if info is None or not stat.S_ISDIR(info.st_mode):
            number = errno.ENOTDIR if info else errno.ENOENT
            raise HostFileError(path, "look through", OSError(number, os.strerror(number)))


def parted(paths: Iterable[Name]) -> tuple[list[Name], list[Name]]:
    """Returns those of `paths` that lead to directories, and the others. Raises as `is_directory`."""
    directories: list[Name] = []
    others: list[Name] = []
    for path in paths:
        (directories if is_directory(path) else others).append(path)
    return directories, others
