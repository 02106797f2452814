"""Finds the faults of running machines: where their state in memory differs from the disk, and what waits for a command."""

from __future__ import annotations

import enum
import os
from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cowherd.live.gone import has_successor, is_temporary
from cowherd.live.kernel_holders import FILE
from cowherd.live.qmp import MonitorBusy, QmpMissing
from cowherd.live.view import View
from cowherd.text import counted, printable, shown

if TYPE_CHECKING:
    from cowherd.live.chains import Disk
    from cowherd.live.kernel_holders import Key
    from cowherd.live.kernel_users import KernelUser
    from cowherd.live.open_images import OpenImage
    from cowherd.live.qmp import MonitorError
    from cowherd.live.running import Look, Running
    from cowherd.live.view import Layer


OURS = "cowherd-"
"""How the names of all begin that cowherd makes in a machine."""


class Fault(enum.StrEnum):
    """The named faults, worst first; docs/live.md explains each."""

    TWO_WRITERS = "two-writers"
    DELETED = "deleted"
    REPLACED = "replaced"
    CHAIN_DIFFERS = "chain-differs"
    NO_LOCKS = "no-locks"
    JOB_WAITING = "job-waiting"
    LEFTOVER = "leftover"
    BITMAP_INCONSISTENT = "bitmap-inconsistent"
    NOT_ANSWERING = "not-answering"
    HIDDEN = "hidden"


@dataclass(frozen=True)
class Found:
    """One fault: its name, its process (None: all that this user may not look into), its image ("" for none), and its text."""

    fault: Fault
    pid: int | None
    image: str
    detail: str


def faults_of(look: Look, merging: Container[Key] = ()) -> list[Found]:
    """Returns the faults of all processes and of the kernel's own users, worst first.

    `merging` are files that a merge concerns which is not at its end: what it has made in a machine is no leftover.
    """
    found = [*_two_writers(look), *_gone_under_kernel(look.kernel)]
    for one in look.all:
        found += [
            *_gone(one),
            *_misnamed(one),
            *_chains(one),
            *_without_locks(one),
            *_waiting(one),
            *_leftovers(one, merging),
            *_bitmaps(one),
            *_silent(one),
        ]
    found += [Found(Fault.NOT_ANSWERING, None, "", str(error)) for error in look.lost if _is_fault(error)]
    if look.hidden:
        found.append(
            Found(
                Fault.HIDDEN,
                None,
                "",
                f"{counted(look.hidden, 'process', 'processes')} may not be looked into by this user; ask as root",
            )
        )
    order = list(Fault)
    return sorted(found, key=lambda one: (order.index(one.fault), one.image, one.pid or 0))


def _two_writers(look: Look) -> Iterator[Found]:
    """Yields a fault for each image that several can write to, of which one at least is a process."""
    writers: dict[Key, list[tuple[Running, OpenImage]]] = defaultdict(list)
    for one in look.all:
        for image in one.images:
            if image.writing:
                writers[image.key].append((one, image))
    devices: dict[Key, list[str]] = defaultdict(list)
    for user in look.kernel:
        if user.writing and user.key and user.key[0] == FILE and user.name:
            devices[user.key].append(f"the kernel ({user.name})")
    for key, those in writers.items():
        names = [*(one.process.describe() for one, _ in those), *devices[key]]
        if len(names) > 1:
            yield Found(Fault.TWO_WRITERS, those[0][0].pid, those[0][1].path, f"{len(names)} can write to it: {', '.join(names)}")


def _gone_under_kernel(users: Sequence[KernelUser]) -> Iterator[Found]:
    """Yields a fault for each loop device whose file was deleted, or has lost its name to another file."""
    for user in users:
        if user.gone:
            yield Found(Fault.DELETED, None, user.path, f"it was deleted, and is there only until {user.name} lets it go")
        elif user.is_misnamed:
            yield Found(Fault.REPLACED, None, user.path, f"another file has its name, and {user.name} has the one that it was")


def _gone(one: Running) -> Iterator[Found]:
    """Yields a fault for each open file that has no name any more."""
    for image in one.images:
        if is_temporary(image.path):
            continue
        if image.gone and not has_successor(one.pid, image.path):
            yield Found(
                Fault.DELETED,
                one.pid,
                image.path,
                f"it was deleted, and is there only until the process ends: {image.descriptor}",
            )
        elif image.gone:
            yield Found(
                Fault.REPLACED,
                one.pid,
                image.path,
                f"another file has its name; the open one is there only as {image.descriptor}",
            )


def _misnamed(one: Running) -> Iterator[Found]:
    """Yields a fault for each of QEMU's names of images that leads to none of them by now."""
    view, open_keys = View(one.pid), {image.key for image in one.images}
    gone = {view.inside(image.path) for image in one.images if image.gone}
    for layer in one.names:
        if not os.path.isabs(layer.name) or layer.name in gone or layer.key in open_keys:
            continue
        if layer.key is None:
            yield Found(Fault.DELETED, one.pid, layer.name, "QEMU opened an image under this name, and nothing has it any more")
        else:
            yield Found(Fault.REPLACED, one.pid, layer.name, "QEMU opened an image under this name, and another file has it now")


def _chains(one: Running) -> Iterator[Found]:
    for disk in one.disks:
        if is_temporary(disk.opened[0].name):  # QEMU's snapshot=on made it, and no start uses it again
            continue
        if disk.differs:
            detail = f"it runs on {_told(disk.opened)}, and the headers say {_told(disk.on_disk)}: its next start reads those"
            yield Found(Fault.CHAIN_DIFFERS, one.pid, disk.opened[0].name, detail)
        elif disk.problem and len(disk.on_disk) > 1 and not _has_all(one, disk):
            yield Found(Fault.CHAIN_DIFFERS, one.pid, disk.opened[0].name, f"its headers lead nowhere: {disk.problem}")


def _has_all(one: Running, disk: Disk) -> bool:
    """Returns whether the rest of a chain, which the headers do not reach, is no file of this process (a base over a network)."""
    return one.asked and [layer.key for layer in disk.opened[: len(disk.on_disk)]] == [layer.key for layer in disk.on_disk]


def _told(layers: Sequence[Layer]) -> str:
    return " <- ".join(shown(layer.name) for layer in layers)


def _without_locks(one: Running) -> Iterator[Found]:
    if one.is_machine:
        for image in one.images:
            if image.writing and not image.locking:
                yield Found(
                    Fault.NO_LOCKS, one.pid, image.path, "it is written to without QEMU's locks: nothing keeps others from it"
                )


def _waiting(one: Running) -> Iterator[Found]:
    for job in one.jobs:
        if job.waits:
            failed = f"it failed ({printable(job.error)}), and nobody has dismissed it"
            why = failed if job.error else f"it is {job.status}, and waits to be told to end"
            yield Found(Fault.JOB_WAITING, one.pid, "", f"the job {shown(job.id)} ({printable(job.type)}): {why}")


def _leftovers(one: Running, merging: Container[Key]) -> Iterator[Found]:
    """Yields a fault for each node, export and job with a name of cowherd's, in a machine that no merge is at work on."""
    if any(image.key in merging for image in one.images):
        return
    named = [("block node", name) for name in one.nodes] + [("export", export.id) for export in one.exports]
    for what, name in [*named, *(("job", job.id) for job in one.jobs)]:
        if name.startswith(OURS):
            detail = f"the {what} {shown(name)} is left over from work that was cut off: nothing is at work on this machine"
            yield Found(Fault.LEFTOVER, one.pid, "", detail)


def _bitmaps(one: Running) -> Iterator[Found]:
    for node, bitmap in one.bitmaps:
        detail = (
            f"the bitmap {shown(bitmap)} of node {shown(node)} is inconsistent: an incremental backup with it would miss changes"
        )
        yield Found(Fault.BITMAP_INCONSISTENT, one.pid, "", detail)


def _silent(one: Running) -> Iterator[Found]:
    if one.monitor_error and _is_fault(one.monitor_error):
        yield Found(Fault.NOT_ANSWERING, one.pid, "", str(one.monitor_error))


def _is_fault(error: MonitorError) -> bool:
    """Returns whether something is wrong with a monitor or its machine: that it serves somebody else is no fault."""
    return not isinstance(error, MonitorBusy | QmpMissing)
