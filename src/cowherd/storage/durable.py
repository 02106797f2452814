"""Makes files of another process durable before anything is built on them.

A killed process leaves data in the host's memory that it had written and not flushed. If a reader believes it and takes the next
step durably, a power cut can leave that step without the data that it depends on. A file whose flush failed may also show bytes
that its disk does not hold.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from cowherd.errors import HostFileError
from cowherd.paths import directory_of
from cowherd.storage.atomic import make_name_lasting
from cowherd.storage.hostfile import HostFile
from cowherd.storage.presence import GONE, look_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.paths import PathName

_RECENT_SECONDS = 3600
"""Kernels write back data that is older than half a minute; in laptop mode, ten minutes."""


def make_durable(*paths: PathName) -> None:
    """Makes the files under some names durable, and the names themselves; all that is read afterwards is on the disk.

    Called before a process goes on from where another one stopped. A name under which there is nothing is durably gone.
    Raises `HostFileError`; `FlushFailed` if the disk does not take it.
    """
    places = {name for path in paths for name in (os.fspath(path), os.path.realpath(path))}
    for place in sorted(places):
        info = look_up(place, follow=False, absent=GONE)
        if info and not stat.S_ISDIR(info.st_mode) and not stat.S_ISLNK(info.st_mode):
            _flush(place)
    for place in {os.path.dirname(place): place for place in sorted(places)}.values():
        if look_up(directory_of(place), absent=GONE):
            make_name_lasting(place)


def make_durable_if_recent(path: PathName) -> None:
    """Makes a file durable if it has changed within the last hour: older changes the host has written by itself.

    For files that another process may have left unfinished, which is rare. Raises as `make_durable`.
    """
    info = look_up(path, absent=GONE)
    if info and (stat.S_ISBLK(info.st_mode) or time.time() - info.st_ctime < _RECENT_SECONDS):
        make_durable(path)


def _flush(place: str) -> None:
    try:
        with HostFile.open(place, lock=None) as file:
            file.flush(whole=True)
            file.forget_cached()
    except HostFileError as error:
        if error.errno != errno.ENOENT:  # another process has removed it since
            raise
