"""What the kernel says about files while they change: the notices that fanotify and inotify both give."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path


class What(enum.Enum):
    """What happened. To a watched file: OPENED to ATTRIBUTES; to a name in a watched directory: APPEARED, VANISHED.

    CLOSED: somebody who could write to it closed it; what is written through mapped memory shows only then.
    OVERFLOW: notices were lost, and everything has to be looked at again.
    """

    OPENED = "opened"
    WRITTEN = "written"
    CLOSED = "closed"
    ATTRIBUTES = "attributes"
    APPEARED = "appeared"
    VANISHED = "vanished"
    OVERFLOW = "overflow"


@dataclass(frozen=True)
class Notice:
    """One notice: of the file, or of a name in a directory, at `path`; by the process `pid`.

    `path` is the watched name, None of an overflow. `pid` is None where the kernel doesn't tell, 0 for a process that can't be
    seen from this process id namespace. `is_directory`: the name that appeared or vanished is a directory's.
    """

    what: What
    path: Path | None
    pid: int | None = None
    is_directory: bool = False


class Source(Protocol):
    """Where notices come from."""

    names_processes: bool

    def fileno(self) -> int:
        """The descriptor that becomes readable when there are notices."""

    def add_file(self, path: Path) -> None:
        """Watches the file that `path` leads to now; OSError where the kernel or the file system can't."""

    def add_directory(self, path: Path) -> None:
        """Watches which names appear and vanish in a directory; OSError as above."""

    def read(self) -> list[Notice]:
        """Returns the notices that are there, without waiting."""

    def close(self) -> None:
        """Ends all watches."""
