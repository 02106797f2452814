"""The images that a machine will open, as its description names them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cowherd.errors import CowherdError

EMPTY = "an empty drive"
"""The `remote` of a drive with nothing in it, such as an empty CD-ROM."""


@dataclass(frozen=True)
class Below:
    """A backing file as the description names it: its absolute path, and its format.

    A `path` of None is the file that the header above records, a `format` of None the format that it records.
    """

    path: Path | None
    format: str | None


@dataclass(frozen=True)
class Drive:
    """One file of a machine.

    `where` is its name in the description, as in "vda" or "-drive file=web.qcow2". `path` is absolute; it is None if this is no
    local file, and `remote` then says what it is. `format` is None if the description leaves QEMU to guess it. `writable` says
    that the guest's writes, or QEMU's own, go to this file. `below` are the backing files that the description names in place of
    those in the headers, nearest first. `ends` says that by the description the last of all these has no backing file, or one
    that is no local file (`below_remote`).

    `unknown` says which part is not understood, so that nobody can say which files will be opened. `plain` says that it is no
    disk but a file whose bytes are read or written as they are, such as a kernel or a log; it does not matter if it is missing.
    `data_named` says that the description names an external data file in place of the one in the header.
    """

    where: str
    path: Path | None
    format: str | None = None
    writable: bool = True
    remote: str = ""
    below: tuple[Below, ...] = ()
    ends: bool = False
    below_remote: str = ""
    unknown: str = ""
    plain: bool = False
    data_named: bool = False


class MachineUnclear(CowherdError):
    """A machine's description can't be understood, so that nobody can say which images it will open.

    Attributes: `problem`, `where` (the part of the description, "" for the whole).
    """

    def __init__(self, problem: str, where: str = ""):
        self.problem, self.where = problem, where

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}" if self.where else self.problem
