"""Whether a name is taken. If the host can't tell, that is an error and not a no."""

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

GONE = (errno.ENOENT, errno.ENOTDIR)
"""The errors that mean that there is nothing under a name."""

NOTHING = (*GONE, errno.ENAMETOOLONG, errno.ELOOP)
"""The errors that mean that there is nothing under a name, or that nothing can be."""

ABSENT = (*NOTHING, errno.EACCES)
"""The errors that mean that there is nothing under a name, or nothing that this user could reach."""


def look_up(path: PathName, *, follow: bool = True, absent: Collection[int] = ABSENT) -> os.stat_result | None:
    """Returns the stat(2) result of a name (lstat without `follow`); None if the host returns one of the `absent` errors.

    Raises `HostFileError` if it fails otherwise, as with an I/O error. os.path returns False then, and a caller that trusts it
    would miss a seal that is there, or overwrite a file.
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
    """Returns whether something has that name, even a symbolic link that leads nowhere. Raises `HostFileError`."""
    return look_up(path, follow=False) is not None


def is_directory(path: PathName) -> bool:
    """Returns whether a name leads to a directory. Raises `HostFileError`."""
    info = look_up(path)
    return info is not None and stat.S_ISDIR(info.st_mode)


def require_directories(paths: Iterable[PathName]) -> None:
    """Raises `HostFileError` for the first of `paths` that is no directory: a directory that is not there can't be in order."""
    for path in paths:
        info = look_up(path, absent=NOTHING)
        if info is None or not stat.S_ISDIR(info.st_mode):
            number = errno.ENOTDIR if info else errno.ENOENT
            raise HostFileError(path, "look through", OSError(number, os.strerror(number)))


def parted(paths: Iterable[Name]) -> tuple[list[Name], list[Name]]:
    """Returns two lists: the `paths` that lead to directories, and the others. Raises as `is_directory`."""
    directories: list[Name] = []
    others: list[Name] = []
    for path in paths:
        (directories if is_directory(path) else others).append(path)
    return directories, others
