"""`cowherd log`: what cowherd did to images."""

from __future__ import annotations

from cowherd.cli.guard.output import Report, table
from cowherd.cli.guard.rows import Rows
from cowherd.cli.guard.usage import UsageError
from cowherd.herd.records.ownership import TRASH
from cowherd.text import current_directory, printable, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from cowherd.cli.guard.arguments import Parser
    from cowherd.herd.log.entry import Entry

_LISTED = 3
_WORDS = {0: "done", 3: "refused", 4: "done, found wrong", -1: "interrupted"}


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Shows what both programs did to an image, newest first: when, by whom, which command, and how it ended; without IMAGE,\n"
        "to all of this host. An image is found under the names that it had before, too. The log is kept in\n"
        "/var/lib/cowherd/log (root) or ~/.local/state/cowherd/log, below 5 MiB. Nothing relies on it, and what was done\n"
        "without cowherd is not in it.",
        "cowherd log web.qcow2\ncowherd log -n 20",
    )
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="an image, also one that is gone, or a directory")
    parser.add_argument("-n", "--number", type=int, metavar="N", help="only the last N commands")
    parser.add_herd()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    from cowherd.herd.log.history import log

    if arguments.number is not None and arguments.number < 1:
        raise UsageError("-n takes a number from 1 on", "as in: cowherd log -n 20")
    found = log([*arguments.images, *arguments.herd], number=arguments.number)
    notes = tuple(f"cowherd: {shown(one.path)}: {one.problem}" for one in found.unread)
    return Report(found.to_json(Rows), tuple(_lines(found.entries) or ["nothing is in the log"]), notes)


def _lines(entries: Sequence[Entry]) -> list[str]:
    """Returns a row for each entry, and below it what went wrong."""
    here = current_directory()
    rows = table(_row(entry, here) for entry in entries)
    reasons = ([f"    {printable(entry.problem)}"] if entry.problem else [] for entry in entries)
    return [line for row, reason in zip(rows, reasons, strict=True) for line in (row, *reason)]


def _row(entry: Entry, here: str) -> tuple[str, ...]:
    user = f"{printable(entry.user)} (sudo by {printable(entry.sudo_user)})" if entry.sudo_user else printable(entry.user)
    program = "" if entry.program == "cowherd" else f"{printable(entry.program)} "
    ending = _WORDS.get(entry.exit_code, f"failed ({entry.exit_code})")
    return printable(entry.time), user, f"{program}{printable(entry.command)}", ending, _images(entry, here)


def _images(entry: Entry, here: str) -> str:
    names = list(dict.fromkeys(shown(image.path, here) for image in entry.images))
    names = [name for name in names if f"{TRASH}/" not in name] or names  # what lies in the trash has its former name as well
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
