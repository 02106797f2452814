"""Finds what runs on which images, for all processes of a host at once: their files from /proc, and their monitors' answers.

A machine's open chain can differ from what the files say: QEMU opened the chain when it started, and names, headers and files
may have moved since.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cowherd.errors import CowherdError
from cowherd.live import holders
from cowherd.live.chains import Disk, Layer, View, disks_from_descriptors, disks_from_nodes
from cowherd.live.holders import PROC, Holder, runs_machines
from cowherd.live.kernel_holders import Key
from cowherd.live.monitors import arguments_of, monitors_of
from cowherd.live.open_images import OpenImage, open_images
from cowherd.live.process import Process, look_up
from cowherd.live.qmp import Answers, MonitorError, ask_all

_NODES, _JOBS = "query-named-block-nodes", "query-jobs"
NOTHING: frozenset[Key] = frozenset()


@dataclass(frozen=True)
class Job:
    """A block job: `status` and `error` in QEMU's words; `done` of `total` in the job's own measure, mostly bytes."""

    id: str
    type: str
    status: str
    done: int
    total: int
    error: str = ""

    @property
    def waits(self) -> bool:
        """Whether it needs a command to go on, or has failed and nobody has read its error."""
        return self.status in ("ready", "pending") or (self.status == "concluded" and bool(self.error))


@dataclass(frozen=True)
class Running:
    """A process that has images open, with its disks, as far as they are known, and its jobs.

    `asked` says that a monitor has answered. `monitor_error` says why none has, None if one has or there is none. `names` are
    QEMU's names of its images, `bitmaps` the (node, bitmap) pairs that it calls inconsistent.
    """

    process: Process
    holder: Holder
    images: tuple[OpenImage, ...]
    disks: tuple[Disk, ...] = ()
    monitors: tuple[Path, ...] = ()
    asked: bool = False
    monitor_error: MonitorError | None = None
    jobs: tuple[Job, ...] = ()
    names: tuple[Layer, ...] = ()
    bitmaps: tuple[tuple[str, str], ...] = ()

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self.process.pid

    @property
    def is_machine(self) -> bool:
        """Whether it runs a machine or serves its disks, judged by its program's name."""
        return self.holder.is_machine


@dataclass(frozen=True)
class Look:
    """All processes with open images, by process id, and the number of processes that this user may not look into."""

    all: tuple[Running, ...]
    hidden: int


def look_at_all(
    wanted: Collection[Key] | None = None, sockets: Sequence[Path] = (), *, among: Sequence[int] | None = None
) -> Look:
    """Returns the processes that have images open; with `wanted`, only those that have one of these files open.

    Looks into the processes `among`, None for all of the host.
    Queries the monitors at `sockets` beside those that the command lines name, but never a domain's, which libvirt uses.
    Raises `HostFileError` if there is no /proc.
    """
    found, hidden = [], 0
    for pid in holders.processes() if among is None else among:
        try:
            one = _look_at(pid, NOTHING if wanted is None else wanted)
        except PermissionError:
            hidden += not holders.is_of_system(pid)
            continue
        if one and (wanted is None or any(image.key in wanted for image in one.images)):
            found.append(one)
    told = [_told(one, answer) for one, answer in _asked(found, sockets)]
    return Look(tuple(one for one in told if os.path.exists(f"{PROC}/{one.pid}")), hidden)  # the others have ended meanwhile


def _look_at(pid: int, wanted: Collection[Key]) -> Running | None:
    """Returns a process with its open images, None if it has none. Raises `PermissionError` if this user may not look into it."""
    if pid == holders.own_number():
        return None
    images = open_images(pid, wanted, is_machine=runs_machines(pid))
    process = look_up(pid) if images else None
    holder = holders.describe_process(pid, writing=any(image.writing for image in images)) if process else None
    if process is None or holder is None:
        return None
    return Running(process, holder, tuple(images), monitors=() if holder.is_domain else _monitors_of(pid))


def _monitors_of(pid: int) -> tuple[Path, ...]:
    with contextlib.suppress(OSError, CowherdError):  # it has ended, or its options are none of QEMU's
        return tuple(monitors_of(arguments_of(f"{PROC}/{pid}"), Path(os.readlink(f"{PROC}/{pid}/cwd"))))
    return ()


def _asked(found: Sequence[Running], sockets: Sequence[Path]) -> list[tuple[Running, Answers | MonitorError | None]]:
    """Queries all monitors at once; returns with each process the answer of one of its monitors, or why none has answered."""
    asked = [(one.pid, path) for one in found for path in one.monitors] + [(None, path) for path in sockets]
    answers = ask_all([path for _, path in asked], (_NODES, _JOBS)) if asked else []
    by_process: dict[int, Answers | MonitorError] = {}
    for (known, _), answer in zip(asked, answers, strict=True):
        pid = answer.pid if known is None else known
        if pid is not None and not isinstance(by_process.get(pid), Answers):
            by_process[pid] = answer
    return [(one, by_process.get(one.pid)) for one in found]


def _told(one: Running, answer: Answers | MonitorError | None) -> Running:
    """Returns the process with the facts from its descriptors and from its monitor together."""
    view = View(one.pid)
    if not isinstance(answer, Answers):
        return replace(one, disks=tuple(disks_from_descriptors(one.images, view)), monitor_error=answer)
    nodes = answer.by_command.get(_NODES, [])
    return replace(
        one,
        disks=tuple(disks_from_nodes(nodes, one.images, view)),
        asked=True,
        jobs=tuple(map(_job, answer.by_command.get(_JOBS, []))),
        names=tuple({name: view.layer(name) for node in nodes for name in [str(node.get("file", ""))]}.values()),
        bitmaps=tuple(
            (str(node.get("node-name", "")), str(bitmap.get("name", "")))
            for node in nodes
            for bitmap in node.get("dirty-bitmaps", ())
            if bitmap.get("inconsistent")
        ),
    )


def _job(told: dict[str, Any]) -> Job:
    return Job(
        str(told.get("id", "")),
        str(told.get("type", "")),
        str(told.get("status", "")),
        int(told.get("current-progress", 0)),
        int(told.get("total-progress", 0)),
        str(told.get("error", "")),
    )
