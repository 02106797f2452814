"""`cowherd run -- qemu-system-x86_64 ...`: starts QEMU only if its images stand on the content that they were made on."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import TYPE_CHECKING

from cowherd.cli.guard.bases import starting
from cowherd.cli.guard.output import Report, progress_of_reading, say
from cowherd.errors import HostFileError, InvalidRequest
from cowherd.text import printable

if TYPE_CHECKING:
    from typing import NoReturn

    from cowherd.cli.guard.arguments import Parser

_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Finds the images that a QEMU command line opens (-drive, -blockdev, -hda and its kin, -readconfig, a file name that\n"
        "stands alone), checks their whole chains as 'verify' does, and then becomes QEMU, with the same process id. It refuses\n"
        "to start on drift, a missing base or an interrupted merge (exit code 4), and if the guest would write to a base that\n"
        "others stand on or that is sealed (3). What is no local file, as nbd://..., is said and not checked. What may name\n"
        "a file and is not understood is a reason not to start (1), unless --allow-unknown is given.\n\n"
        "With --json the document is printed if the machine does not start; what starts prints what QEMU does.",
        "cowherd run -- qemu-system-x86_64 -m 2G -drive file=web.qcow2,if=virtio\n"
        "cowherd run --dry-run -- qemu-system-x86_64 -hda web.qcow2",
    )
    starting.add_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what is found, and start nothing")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND ...", help="QEMU with its arguments")


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out; if the machine may start, it returns only with --dry-run."""
    from cowherd.herd.gate.startup import check_start
    from cowherd.live.machine.command_line import drives_of, program_at, started_in
    from cowherd.live.machine.drive import Drive

    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    program = program_at(command)
    if program is None:
        raise InvalidRequest("after -- a command with QEMU's program is expected, as in: cowherd run -- qemu-system-x86_64 ...")
    directory, unclear = started_in(command[:program])
    drives = drives_of(command[program + 1 :], directory)
    if unclear:
        drives = (Drive(printable(command[0]), None, unknown=unclear), *drives)
    found = check_start(drives, **starting.options_of(arguments), directory=directory, reading=progress_of_reading)
    if not (found.exit_code or arguments.dry_run):
        for remark in starting.remarks(found):
            say(remark)
        _become(command)
    lines = starting.lines(found) if arguments.dry_run else ()
    return Report(found.to_json(), lines, starting.reasons(found, command[program]), found.exit_code)


def _become(command: list[str]) -> NoReturn:
    before = [(number, signal.signal(number, signal.SIG_DFL)) for number in _IGNORED_BY_PYTHON]
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvp(command[0], command)
    except OSError as error:
        for number, handler in before:
            signal.signal(number, handler)
        raise HostFileError(command[0], "run", error) from error
