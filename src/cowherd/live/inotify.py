"""inotify(7), for users who may not use fanotify: the same notices, without the process. Uses inotify_simple (extra: watch)."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from cowherd.live.notices import Notice, What

if TYPE_CHECKING:
    from inotify_simple import INotify

_ATTRIB, _MODIFY, _CLOSE_WRITE = 0x4, 0x2, 0x8
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x40, 0x80, 0x100, 0x200
_Q_OVERFLOW, _ONLYDIR, _ISDIR = 0x4000, 0x1000000, 0x40000000
_OF_FILES = {_MODIFY: What.WRITTEN, _CLOSE_WRITE: What.CLOSED, _ATTRIB: What.ATTRIBUTES}
_OF_NAMES = {_DELETE: What.VANISHED, _MOVED_FROM: What.VANISHED, _CREATE: What.APPEARED, _MOVED_TO: What.APPEARED}


class Inotify:
    """An inotify instance with a watch on each file and directory.

    Raises ModuleNotFoundError without inotify_simple, OSError if the user has too many instances.
    """

    names_processes = False

    def __init__(self) -> None:
        from inotify_simple import INotify

        self._inotify: INotify = INotify(nonblocking=True)
        self._paths: dict[int, Path] = {}

    def fileno(self) -> int:
        """The descriptor that becomes readable when there are notices."""
        return int(self._inotify.fileno())

    def add_file(self, path: Path) -> None:
        """Watches the file that `path` leads to now. Raises OSError, for one if the user has too many watches."""
        self._add(path, sum(_OF_FILES))

    def add_directory(self, path: Path) -> None:
        """Watches which names appear and vanish in a directory. Raises OSError as `add_file`."""
        self._add(path, sum(_OF_NAMES) | _ONLYDIR)

    def _add(self, path: Path, mask: int) -> None:
        try:
            self._paths[self._inotify.add_watch(path, mask)] = path
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise OSError(
                    errno.ENOSPC, "no more watches for this user; raise the sysctl fs.inotify.max_user_watches"
                ) from error
            raise

    def read(self) -> list[Notice]:
        """Returns the pending notices, without waiting."""
        notices: list[Notice] = []
        for watch, mask, _, name in self._inotify.read(timeout=0):
            path = self._paths.get(watch)
            if mask & _Q_OVERFLOW:
                notices.append(Notice(What.OVERFLOW, None))
            elif path and name:
                notices += [
                    Notice(what, path / os.fsdecode(name), is_directory=bool(mask & _ISDIR))
                    for bit, what in _OF_NAMES.items()
                    if mask & bit
                ]
            elif path:
                notices += [Notice(what, path) for bit, what in _OF_FILES.items() if mask & bit]
        return notices

    def close(self) -> None:
        """Ends all watches."""
        self._inotify.close()
