"""A glance at the processes of a host: who has which of some files open, and which machines run on files that were deleted.

It takes what /proc says of descriptors, in one pass, and asks no monitor: what can be had while `tree` starts. The look that goes
deeper is `running`.
"""

from __future__ import annotations

import contextlib

from cowherd.live.gone import GoneDisk, has_successor, lost_path
from cowherd.live.holders import PROC, holder_of, open_files, own_number, processes, runs_machines
from cowherd.live.kernel_holders import key_of
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Container

    from cowherd.live.holders import Holder
    from cowherd.live.kernel_holders import Key


class Glance(NamedTuple):
    """The other processes that have each of some files open, and the deleted files that machines have open, each once.

    `machines` are the process ids of the machines among them. `hidden` is the number of machines that this user may not look
    into; what they have open is not known.
    """

    holders: dict[Key, tuple[Holder, ...]]
    gone: tuple[GoneDisk, ...]
    machines: frozenset[int]
    hidden: int


NOTHING_SEEN = Glance({}, (), frozenset(), 0)


def glance_at(wanted: Container[Key], *, only_machines: bool) -> Glance:
    """Looks once through all other processes, with `only_machines` through those that run machines or serve their disks.

    Which ones these are is told by the names of their programs: so the other processes cost a system call each.
    Raises `HostFileError` if there is no /proc.
    """
    found = _Found(wanted)
    hidden, this = 0, own_number()
    for pid in processes():
        is_machine = pid != this and runs_machines(pid)
        if is_machine or not (only_machines or pid == this):
            try:
                found.add(pid, is_machine=is_machine)
            except PermissionError:
                hidden += is_machine
    return Glance(found.holders, tuple(found.gone.values()), frozenset(found.machines), hidden)


class _Found:
    def __init__(self, wanted: Container[Key]):
        self._wanted = wanted
        self.holders: dict[Key, tuple[Holder, ...]] = {}
        self.gone: dict[Key, GoneDisk] = {}
        self.machines: set[int] = set()

    def add(self, pid: int, *, is_machine: bool) -> None:
        """Adds what a process has open. Raises `PermissionError` if this user may not look into it."""
        wanted: dict[Key, list[str]] = {}
        for name, info in open_files(pid):
            key = key_of(info)
            if key in self._wanted:
                wanted.setdefault(key, []).append(name)
            if is_machine:
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # closed meanwhile
                    self._add_if_gone(pid, name, info)
        for key, names in wanted.items():
            holder = holder_of(pid, names)
            if holder:
                self.holders[key] = (*self.holders.get(key, ()), holder)
                if is_machine:
                    self.machines.add(pid)

    def _add_if_gone(self, pid: int, name: str, info: os.stat_result) -> None:
        """Adds a deleted disk, once, if possible with a process that writes to it."""
        path = lost_path(pid, name, info)
        holder = holder_of(pid, [name]) if path else None
        key = key_of(info)
        if path and holder and (key not in self.gone or (holder.writing and not self.gone[key].holder.writing)):
            descriptor = f"{PROC}/{pid}/fd/{name}"
            self.gone[key] = GoneDisk(path, holder, descriptor, has_successor(pid, path), info.st_size, key)
