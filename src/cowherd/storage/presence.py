"""Whether a name is taken. A host that can't tell has not said no."""

from __future__ import annotations

import errno
import os

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
