"""`cowherd ps`: lists what runs on which images, and where its state in memory differs from the disk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cowherd.cli.guard.output import Report

if TYPE_CHECKING:
    import argparse
    from typing import Any

    from cowherd.cli.guard.arguments import Parser

FOUND = 4


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Shows every process that has an image open or mapped: machines, qemu-nbd, qemu-storage-daemon and others, and the\n"
        "kernel's loop and network block devices; for each disk the chain as the process has it and, where that is another, as\n"
        "the headers on the disk say; for each file its seal and status. QMP monitors that the command lines name are asked\n"
        "(libvirt's are not). Nothing is changed, and no machine is paused.\n\n"
        "The exit code is 4 if something is wrong: a file that is gone or has been replaced under a machine, a chain that\n"
        "differs, images without locks, two writers, a job that waits for somebody, what is left over from work that was cut\n"
        "off, or a machine that does not answer.",
        "cowherd ps /var/lib/libvirt/images",
    )
    parser.add_argument("directories", nargs="*", metavar="DIR", help="only what has images under these directories open")
    parser.add_herd()
    parser.add_argument("--image", action="append", default=[], metavar="FILE", help="only what has this file open")
    parser.add_argument("--qmp", action="append", default=[], metavar="SOCKET", help="ask the monitor at this socket, too")


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    from pathlib import Path

    from cowherd.cli.guard.look.processes import document, lines
    from cowherd.herd.report.running import known_of
    from cowherd.live.running import look_at_all
    from cowherd.live.running_faults import faults_of

    look = look_at_all(_wanted(arguments), [Path(socket) for socket in arguments.qmp])
    known = known_of(look.all)
    found = faults_of(look, known.merging)
    return Report(document(look, known.nodes, found), lines(look, known.nodes, found), exit_code=FOUND if found else 0)


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
