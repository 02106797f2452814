"""`cowherd ps`: lists what runs on which images, and where its state in memory differs from the disk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cowherd.cli.guard.output import Report
from cowherd.text import printable, shown

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from typing import Any

    from cowherd.cli.guard.arguments import Parser
    from cowherd.live.chains import Disk, Layer
    from cowherd.live.running import Look, Running
    from cowherd.live.running_faults import Found

FOUND = 4


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Shows every process that has an image open: machines, qemu-nbd, qemu-storage-daemon and others; for each disk the\n"
        "chain as the process has it and, where that is another, as the headers on the disk say. QMP monitors that the\n"
        "command lines name are asked (libvirt's are not). Nothing is changed, and no machine is paused.\n\n"
        "The exit code is 4 if something is wrong: a file that is gone or has been replaced under a machine, a chain that\n"
        "differs, images without locks, two writers, a job that waits for somebody, or a machine that does not answer.",
        "cowherd ps /var/lib/libvirt/images",
    )
    parser.add_argument("directories", nargs="*", metavar="DIR", help="only what has images under these directories open")
    parser.add_herd()
    parser.add_argument("--image", action="append", default=[], metavar="FILE", help="only what has this file open")
    parser.add_argument("--qmp", action="append", default=[], metavar="SOCKET", help="ask the monitor at this socket, too")


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    from pathlib import Path

    from cowherd.live.running import look_at_all
    from cowherd.live.running_faults import faults_of

    look = look_at_all(_wanted(arguments), [Path(socket) for socket in arguments.qmp])
    found = faults_of(look)
    return Report(_document(look, found), tuple(_lines(look, found)), exit_code=FOUND if found else 0)


def _wanted(arguments: argparse.Namespace) -> set[Any] | None:
    """Returns the files that the arguments name, None for all."""
    directories = [*arguments.directories, *arguments.herd]
    if not (directories or arguments.image):
        return None
    from cowherd.errors import HostFileError
    from cowherd.live.kernel_holders import FILE, key_of

    wanted: set[Any] = set()
    for image in arguments.image:
        try:
            wanted.add(key_of(os.stat(image)))
        except OSError as error:
            raise HostFileError(image, "look at", error) from error
    if directories:
        from cowherd.herd.lineage.survey import survey

        wanted |= {(FILE, *key) for key in survey(directories).images}
    return wanted


def _lines(look: Look, found: list[Found]) -> Iterator[str]:
    for one in look.all:
        facts = [one.process.describe()]
        facts += [f"machine {one.holder.machine}"] if one.holder.machine and not one.process.domain else []
        facts += [f"monitor {shown(path)}" for path in one.monitors]
        yield ", ".join(facts)
        if one.monitor_error:
            yield f"    {one.monitor_error}"
        for disk in one.disks:
            yield from _disk_lines(one, disk)
        for job in one.jobs:
            share = f", {100 * job.done // job.total} %" if job.total else ""
            yield f"    job {shown(job.id)}: {printable(job.type)}, {printable(job.status)}{share}"
    for fault in found:
        of = f" (pid {fault.pid})" if fault.pid else ""
        yield f"{fault.fault.value}: {shown(fault.image) + of + ': ' if fault.image else ''}{fault.detail}"
    yield f"{len(look.all)} process(es) have images open: {len(found) or 'nothing'} wrong"


def _disk_lines(one: Running, disk: Disk) -> Iterator[str]:
    by_key = {image.key: image for image in one.images}
    for depth, layer in enumerate(disk.opened):
        image = by_key.get(layer.key) if layer.key else None
        how = f"{'writing' if image.writing else 'reading'}{', locked' if image.locking else ''}" if image else "not open"
        yield f"    {'  ' * depth}{shown(layer.name)}  {how}"
    if disk.differs:
        yield f"      on the disk: {' <- '.join(shown(layer.name) for layer in disk.on_disk)}"


def _document(look: Look, found: list[Found]) -> dict[str, Any]:
    return {
        "processes": [_process(one) for one in look.all],
        "hidden": look.hidden,
        "findings": [
            {"kind": fault.fault.value, "pid": fault.pid, "image": fault.image or None, "detail": fault.detail} for fault in found
        ],
    }


def _process(one: Running) -> dict[str, Any]:
    return {
        **one.process.to_json(),
        "machine": one.holder.machine or None,
        "since": one.holder.since,
        "is_machine": one.is_machine,
        "monitors": [os.fspath(path) for path in one.monitors],
        "asked": one.asked,
        "monitor_error": str(one.monitor_error) if one.monitor_error else None,
        "images": [
            {"path": image.path, "writing": image.writing, "locking": image.locking, "gone": image.gone} for image in one.images
        ],
        "disks": [
            {
                "opened": [*map(_layer, disk.opened)],
                "on_disk": [*map(_layer, disk.on_disk)],
                "differs": disk.differs,
                "problem": disk.problem or None,
            }
            for disk in one.disks
        ],
        "jobs": [dict(vars(job)) for job in one.jobs],
    }


def _layer(layer: Layer) -> dict[str, Any]:
    return {"name": layer.name, "inode": layer.key[2] if layer.key else None}
