"""Whether a name is taken. A host that can't tell has not said no."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from typing import TypeVar

from cowherd.errors import HostFileError

ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ENAMETOOLONG, errno.ELOOP)
"""What says that there is nothing under a name, or nothing that this user could get at."""


def is_there(path: str | os.PathLike[str]) -> bool:
    """Returns whether something has that name, be it a symbolic link that leads nowhere.

    Raises `HostFileError` where the host fails, as with an I/O error: os.path.lexists takes that for a no, and what goes by it
    would leave out a seal, or write over a file, that is there.
    """
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno in ABSENT:
            return False
        raise HostFileError(path, "look at", error) from error
    except ValueError:  # a zero byte
        return False
    return True


Name = TypeVar("Name", bound=str | os.PathLike[str])


def parted(paths: Iterable[Name]) -> tuple[list[Name], list[Name]]:
    """Returns those of `paths` that lead to directories, and the others. Raises as `is_directory`."""
    directories: list[Name] = []
    others: list[Name] = []
    for path in paths:
        (directories if is_directory(path) else others).append(path)
    return directories, others


def is_directory(path: str | os.PathLike[str]) -> bool:
    """Returns whether a name leads to a directory.

    Raises `HostFileError` where the host fails, which os.path.isdir takes for a no.
    """
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except OSError as error:
        if error.errno in ABSENT:
            return False
        raise HostFileError(path, "look at", error) from error
    except ValueError:  # a zero byte
        return False
