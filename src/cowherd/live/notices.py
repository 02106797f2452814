"""The kernel's notices of changes to files, in the form that fanotify and inotify share."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path


class What(enum.Enum):
    """What happened. To a watched file: OPENED to ATTRIBUTES; to a name in a watched directory: APPEARED, VANISHED.

    CLOSED: a process that could write to the file closed it; writes through mapped memory show only then.
    OVERFLOW: notices were lost, and everything must be looked at again.
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
    """One notice about the file, or the name in a directory, at `path`; caused by the process `pid`.

    `path` is None for an overflow. `pid` is None if the kernel doesn't say, 0 for a process that can't be seen from this process
    id namespace. `is_directory` says that the name that appeared or vanished is a directory's.
    """

    what: What
    path: Path | None
    pid: int | None = None
    is_directory: bool = False


class Source(Protocol):
    """A source of notices. `names_processes` says whether its notices have a `pid`."""

    names_processes: bool

    def fileno(self) -> int:
        """The descriptor that becomes readable when there are notices."""

    def add_file(self, path: Path) -> None:
        """Watches the file that `path` leads to now. Raises OSError if the kernel or the file system can't."""

    def add_directory(self, path: Path) -> None:
        """Watches which names appear and vanish in a directory. Raises OSError as `add_file`."""

    def read(self) -> list[Notice]:
        """Returns the pending notices, without waiting."""

    def close(self) -> None:
        """Ends all watches."""
