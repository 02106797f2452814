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

from cowherd.errors import CowherdError, InvalidRequest
from cowherd.live import holders
from cowherd.live.block_facts import COMMANDS, Export, Facts, Job, Malformed, read_facts
from cowherd.live.chains import Disk, disks_from_descriptors, disks_from_facts
from cowherd.live.holders import PROC, Holder, runs_machines
from cowherd.live.kernel_holders import Key
from cowherd.live.kernel_users import KernelUser, kernel_users
from cowherd.live.monitors import arguments_of, is_of_libvirt, monitors_of
from cowherd.live.open_images import MappedImages, OpenImage, open_images
from cowherd.live.process import Process, look_up
from cowherd.live.qmp import Answers, MonitorError, MonitorLost, NotQmp, ask_all
from cowherd.live.view import Layer, View
from cowherd.text import shown

NOTHING: frozenset[Key] = frozenset()
_NO_NAME = "\ufffd"
"""What QEMU writes in place of a byte of a file name that is no UTF-8: then the name leads nowhere."""


@dataclass(frozen=True)
class Running:
    """A process that has images open, with its disks, as far as they are known, and its exports and jobs.

    `asked` says that a monitor has answered. `monitor_error` says why none has, None if one has or there is none. `names` are
    QEMU's names of its images, `nodes` those of its block nodes, `bitmaps` the (node, bitmap) pairs that it calls inconsistent.
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
    exports: tuple[Export, ...] = ()
    nodes: tuple[str, ...] = ()

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self.process.pid

    @property
    def is_machine(self) -> bool:
        """Whether it runs a machine or serves its disks, judged by its program's name."""
        return self.holder.is_machine

    @property
    def domain(self) -> str:
        """The name of the libvirt domain that it runs, escaped for printing, "" if it is none."""
        return (self.process.domain or self.holder.machine) if self.holder.is_domain else ""


@dataclass(frozen=True)
class Look:
    """All processes with open images, by process id, and the number of processes that this user may not look into; and what the
    kernel itself has open. `lost` says of monitors that were named why they tell nothing about any of these processes."""

    all: tuple[Running, ...]
    hidden: int
    kernel: tuple[KernelUser, ...] = ()
    lost: tuple[MonitorError, ...] = ()


def look_at_all(
    wanted: Collection[Key] | None = None, sockets: Sequence[Path] = (), *, among: Sequence[int] | None = None
) -> Look:
    """Returns the processes that have images open; with `wanted`, only those that have one of these files open.

    Looks into the processes `among`, None for all of the host.
    Queries the monitors at `sockets` beside those that the command lines name, but never a domain's, which libvirt uses.
    Raises `HostFileError` if there is no /proc, `InvalidRequest` if one of `sockets` is a domain's monitor.
    """
    for socket in sockets:
        if is_of_libvirt(socket):
            raise InvalidRequest(f"{shown(socket)} is the monitor of a domain: libvirt uses it, and nobody else may")
    opened, hidden = _all_images(NOTHING if wanted is None else wanted, holders.processes() if among is None else among)
    found = []
    for pid, images in opened.items():
        if wanted is None or any(image.key in wanted for image in images):
            one = _running(pid, images)
            found += [one] if one else []
    answers, lost = _asked(found, sockets)
    told = [_told(one, answers.get(one.pid)) for one in found]
    alive = tuple(one for one in told if os.path.exists(f"{PROC}/{one.pid}"))  # the others have ended meanwhile
    return Look(alive, hidden, _kernel(wanted, alive), lost)


def _all_images(wanted: Collection[Key], among: Sequence[int]) -> tuple[dict[int, list[OpenImage]], int]:
    """Returns the open and mapped images of other processes, and the number of processes that can't be looked into.

    A file that some process has open as an image is one for a process that has it mapped, too.
    """
    found: dict[int, list[OpenImage]] = {}
    hidden, this = 0, holders.own_number()
    for pid in among:
        if pid != this:
            try:
                found[pid] = open_images(pid, wanted, is_machine=runs_machines(pid))
            except PermissionError:
                hidden += not holders.is_of_system(pid)
    mapped = MappedImages({*wanted, *(image.key for images in found.values() for image in images)})
    for pid, images in found.items():
        with contextlib.suppress(PermissionError):  # it became another user's in the meantime
            found[pid] = mapped.added_to(pid, images)
    return {pid: images for pid, images in found.items() if images}, hidden


def _running(pid: int, images: Sequence[OpenImage]) -> Running | None:
    """Returns a process with its open images, None if it has ended."""
    process = look_up(pid)
    holder = holders.describe_process(pid, writing=any(image.writing for image in images)) if process else None
    if process is None or holder is None:
        return None
    return Running(process, holder, tuple(images), monitors=() if holder.is_domain else _monitors_of(pid, images))


def _monitors_of(pid: int, images: Sequence[OpenImage]) -> tuple[Path, ...]:
    """Returns the monitors that a process's command line names, from the directory in which it was started if they are there."""
    view = _view(pid, images)
    with contextlib.suppress(OSError, CowherdError):  # it has ended, or its options are none of QEMU's
        arguments = arguments_of(f"{PROC}/{pid}")
        tried = [tuple(monitors_of(arguments, Path(directory))) for directory in view.directories]
        return next((found for found in tried if any(view.key_of(os.fspath(path)) for path in found)), tried[0])
    return ()


def _view(pid: int, images: Sequence[OpenImage]) -> View:
    return View(pid, [image.path for image in images])


def _kernel(wanted: Collection[Key] | None, found: Sequence[Running]) -> tuple[KernelUser, ...]:
    """Returns the kernel's own users; with `wanted`, those of these files, and those that one of the processes serves."""
    names = {image.key: image.path for one in found for image in one.images}
    pids = {one.pid for one in found}
    users = kernel_users(names)
    return tuple(user for user in users if wanted is None or user.pid in pids or user.key in wanted)


def _asked(found: Sequence[Running], sockets: Sequence[Path]) -> tuple[dict[int, Facts | MonitorError], tuple[MonitorError, ...]]:
    """Queries all monitors at once; returns by process what one of its monitors says, or why none has answered; and why those in
    `sockets` have not whose process is not among `found`."""
    asked: list[tuple[int | None, str]] = [(one.pid, View(one.pid).reached(path)) for one in found for path in one.monitors]
    asked += [(None, os.fspath(path)) for path in sockets]
    answers = ask_all([path for _, path in asked], COMMANDS) if asked else []
    by_process: dict[int, Facts | MonitorError] = {}
    lost, pids = [], {one.pid for one in found}
    for (known, path), answer in zip(asked, answers, strict=True):
        pid = answer.pid if known is None else known
        if pid is not None and not isinstance(by_process.get(pid), Facts):
            by_process[pid] = _facts(answer, path, known)
        if pid not in pids and isinstance(answer, MonitorError):
            lost.append(answer)
    return by_process, tuple(lost)


def _facts(answer: Answers | MonitorError, path: str, known: int | None) -> Facts | MonitorError:
    """Returns what an answer says. It counts only for the process that gives it: another one may have taken the socket's name."""
    if not isinstance(answer, Answers):
        return answer
    if known is not None and answer.pid not in (None, known) and os.path.exists(f"{PROC}/{answer.pid}"):
        return MonitorLost(path, f"another process (pid {answer.pid}) has taken its name", known)
    try:
        return read_facts(answer.by_command)
    except Malformed as error:
        return NotQmp(path, answer.pid, str(error))


def _told(one: Running, facts: Facts | MonitorError | None) -> Running:
    """Returns the process with the facts from its descriptors and from its monitor together."""
    view = _view(one.pid, one.images)
    if not isinstance(facts, Facts):
        return replace(one, disks=tuple(disks_from_descriptors(one.images, view)), monitor_error=facts)
    names = dict.fromkeys(node.file for node in facts.nodes if _NO_NAME not in node.file)
    return replace(
        one,
        disks=tuple(disks_from_facts(facts, one.images, view)),
        asked=True,
        jobs=facts.jobs,
        names=tuple(map(view.layer, names)),
        bitmaps=tuple((node.name, bitmap) for node in facts.nodes for bitmap in node.inconsistent),
        exports=facts.exports,
        nodes=tuple(node.name for node in facts.nodes),
    )
