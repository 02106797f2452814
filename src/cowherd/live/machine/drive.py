"""The images that a machine will open, as its description names them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cowherd.errors import CowherdError

EMPTY = "an empty drive"
"""What a drive is in which there is nothing, as a CD-ROM may be."""


@dataclass(frozen=True)
class Below:
    """A backing file as the description names it: its absolute path, and its format.

    `path` None: the file that the header above records. `format` None: the format that the header above records.
    """

    path: Path | None
    format: str | None


@dataclass(frozen=True)
class Drive:
    """One file of a machine.

    `where` says how the description calls it, as in "vda" or "-drive file=web.qcow2". `path` is absolute, None for what is no
    local file: then `remote` says what it is. `format` is None where the description leaves the guess to QEMU. `writable`:
    the guest's writes, or QEMU's own, go to this file. `below` are backing files that are named in place of those in the headers,
    nearest first; `ends`: the last of all these is told to have no backing file, or `below_remote`, one that is no local file.

    `unknown` says what of it is not understood, so that nobody can say which files will be opened. `plain`: it is no disk, but
    a file of which the bytes are read or written as they are, as a kernel or a log; nothing is lost where it is not there.
    `data_named`: the external data file that its header names is not used, since the description names another.
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

    Attributes: `problem`, `where` (the part of it, "" for the whole).
    """

    def __init__(self, problem: str, where: str = ""):
        self.problem, self.where = problem, where

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}" if self.where else self.problem
