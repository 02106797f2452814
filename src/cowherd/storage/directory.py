"""A directory that stays open, so that work in it is done in that directory, even if its name leads elsewhere meanwhile.

Anybody who may write in a directory can replace any name in it by a symbolic link. Code that changes files in a directory of
others therefore uses an open descriptor, which it has reached without following a link.
"""

from __future__ import annotations

import os

from cowherd.errors import HostFileError
from cowherd.paths import as_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from cowherd.paths import PathName

_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BY_DESCRIPTOR = "/proc/self/fd"


class Directory:
    """An open directory; a context manager. `path` is the name by which it was reached."""

    def __init__(self, path: Path, fd: int):
        """Takes over a descriptor, and closes it in the end."""
        self.path, self.fd = path, fd

    @classmethod
    def open(cls, path: PathName) -> Self:
        """Opens an absolute path step by step. Raises `HostFileError`, also if any step is a symbolic link."""
        place = as_path(path)
        try:
            fd = os.open("/", _FLAGS)
            for name in place.parts[1:]:
                above = fd
                try:
                    fd = os.open(name, _FLAGS, dir_fd=above)
                finally:
                    os.close(above)
        except OSError as error:
            raise HostFileError(place, "look into", error) from error
        return cls(place, fd)

    def below(self, name: str) -> Self:
        """Opens a directory right in this one. Raises `HostFileError`, also if it is a symbolic link."""
        try:
            return type(self)(self.path / name, os.open(name, _FLAGS, dir_fd=self.fd))
        except OSError as error:
            raise HostFileError(self.path / name, "look into", error) from error

    def info(self) -> os.stat_result:
        """Returns the stat(2) result of the directory itself."""
        return os.fstat(self.fd)

    def held(self, name: str = "") -> str:
        """Returns a path to a name in it, or to itself; it leads there while the directory is open, whatever its own name."""
        return f"{_BY_DESCRIPTOR}/{self.fd}/{name}"

    def look_up(self, name: str) -> os.stat_result | None:
        """Returns the lstat(2) result of a name in it, None if there is no such name. Raises `HostFileError`."""
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except (FileNotFoundError, ValueError):
            return None
        except OSError as error:
            raise HostFileError(self.path / name, "look at", error) from error

    def names(self) -> list[str]:
        """Returns the names in it, in order. Raises `HostFileError`."""
        try:
            return sorted(os.listdir(self.held()))
        except OSError as error:
            raise HostFileError(self.path, "look into", error) from error

    def close(self) -> None:
        """Closes it. Closing twice is fine."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
