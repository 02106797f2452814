"""Identifies a process from /proc: its program, user, systemd unit and libvirt domain."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cowherd.live.holders import Holder, program_name, shortened
from cowherd.live.machine.options import pairs
from cowherd.live.owners import unit_of, user_of
from cowherd.text import printable

_PROC = Path("/proc")
_REMEMBERED = 512
_MACHINE = re.compile(r"machine-qemu-\d+-(.+)\.scope")
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")


@dataclass(frozen=True)
class Process:
    """A process; all texts are escaped for printing, and None or empty if they are not known.

    `unit` is the systemd service or scope that it runs in, `domain` the libvirt domain whose QEMU it is. `gone` says that it has
    ended before it could be looked at: then only the facts from when it opened the file are known, or none. `hint` says that the
    kernel did not name it: it is a process that has the file open for writing.
    """

    pid: int
    command: str | None = None
    command_line: str = ""
    user: str | None = None
    unit: str | None = None
    domain: str | None = None
    gone: bool = False
    hint: bool = False

    def describe(self) -> str:
        """Returns one line such as `dd (pid 1234, user root, session-1.scope)`."""
        if self.pid == 0:
            return "a process of another process id namespace"
        facts = [f"pid {self.pid}"]
        facts += [f"user {self.user}"] if self.user else []
        facts += [f"domain {self.domain}"] if self.domain else [self.unit] if self.unit else []
        facts += ["gone already"] if self.gone else []
        return f"{'perhaps ' if self.hint else ''}{self.command or 'a process'} ({', '.join(facts)})"

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return dict(vars(self))


def look_up(pid: int) -> Process | None:
    """Returns the facts of a process from /proc, None if it is gone. One that has ended but is not reaped lacks arguments."""
    home = _PROC / str(pid)
    try:
        arguments = (home / "cmdline").read_bytes()
        comm = (home / "comm").read_bytes().removesuffix(b"\n")
        groups = os.fsdecode((home / "cgroup").read_bytes())
    except OSError:
        return None
    unit = unit_of(groups)
    return Process(
        pid=pid,
        command=printable(program_name(arguments, comm)),
        command_line=shortened(printable(arguments.rstrip(b"\0").replace(b"\0", b" "))),
        user=user_of(pid),
        unit=printable(unit) if unit else None,
        domain=_domain_of(arguments, unit),
    )


class SeenProcesses:
    """Remembers the processes that opened watched files, in case one writes and ends before it can be looked at."""

    def __init__(self) -> None:
        self._seen: OrderedDict[int, Process] = OrderedDict()

    def meet(self, pid: int) -> None:
        """Looks at a process that opens a file, and remembers it; forgets the one seen longest ago if there are too many."""
        found = self._look_up(pid)
        if found:
            self._seen[pid] = found
            self._seen.move_to_end(pid)
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)

    def identify(self, pid: int) -> Process:
        """Returns the process of this number as it is, or as it was when it was seen."""
        found = self._look_up(pid)
        if found is None:
            return replace(self._seen[pid], gone=True) if pid in self._seen else Process(pid, gone=True)
        return found

    def _look_up(self, pid: int) -> Process | None:
        """Does what `look_up` does; for a process that has just ended and lost its arguments, returns what was seen before."""
        seen, found = self._seen.get(pid), look_up(pid)
        if seen and found and not found.command_line and seen.command == found.command:
            return seen
        return found


def suspect(holder: Holder) -> Process:
    """Returns a process that has a file open for writing, as a hint who wrote to the file."""
    found = look_up(holder.pid)
    known = found or Process(holder.pid, holder.command, holder.command_line, gone=True)
    return replace(known, hint=True)


def _domain_of(arguments: bytes, unit: str | None) -> str | None:
    """Returns the name with which libvirt started QEMU (-name guest=NAME,...), or else the name in its scope."""
    words = arguments.split(b"\0")
    named = dict(pairs(os.fsdecode(words[words.index(b"-name") + 1]))).get("guest") if b"-name" in words[:-1] else None
    if named:
        return printable(named)
    scope = _MACHINE.fullmatch(_ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), unit)) if unit else None
    return printable(scope[1]) if scope else None
