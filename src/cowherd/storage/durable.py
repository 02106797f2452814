"""What another process has left is built on only once it is on the disk.

A killed process leaves in the host's memory what it had written and not flushed. Whoever reads it there, believes it and takes
the next step durably is refuted by a power cut: his step is there, and what it stands on is not. A file whose flush failed may
show what its disk does not hold, too.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from cowherd.errors import HostFileError
from cowherd.storage.atomic import make_name_lasting
from cowherd.storage.hostfile import HostFile
from cowherd.storage.presence import look_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.paths import PathName

_GONE = (errno.ENOENT, errno.ENOTDIR)
_RECENT_SECONDS = 3600
"""Kernels write back what is older than half a minute; laptop mode makes that ten."""


def make_durable(*paths: PathName) -> None:
    """Makes the files under some names durable, and that they have these names; what is read afterwards is on the disk.

    Called by who goes on from where another process stopped, before it believes what it finds. A name under which there is
    nothing is durably gone. Raises `HostFileError`; `FlushFailed` where the disk does not take it.
    """
    places = {name for path in paths for name in (os.fspath(path), os.path.realpath(path))}
    for place in sorted(places):
        info = look_up(place, follow=False, absent=_GONE)
        if info and not stat.S_ISDIR(info.st_mode) and not stat.S_ISLNK(info.st_mode):
            _flush(place)
    for place in {os.path.dirname(place): place for place in sorted(places)}.values():
        if look_up(os.path.dirname(place) or ".", absent=_GONE):
            make_name_lasting(place)


def make_durable_if_recent(path: PathName) -> None:
    """Makes a file durable if anything was changed about it within the last hour: by then the host has written it by itself.

    For files that may have been left by another process, and mostly were not. Raises as `make_durable`.
    """
    info = look_up(path, absent=_GONE)
    if info and (stat.S_ISBLK(info.st_mode) or time.time() - info.st_ctime < _RECENT_SECONDS):
        make_durable(path)


def _flush(place: str) -> None:
    try:
        with HostFile.open(place, lock=None) as file:
            file.flush(whole=True)
            file.forget_cached()
    except HostFileError as error:
        if error.errno != errno.ENOENT:  # it is gone since, and somebody else's work
            raise
