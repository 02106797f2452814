"""`cowherd delete`: moves images that nothing needs to the trash."""

from __future__ import annotations

import os

from cowherd.cli.guard.output import Report
from cowherd.sizes import human_size
from cowherd.text import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from cowherd.cli.guard.arguments import Parser


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Moves images, with their seals, into the trash beside them (.cowherd-trash), from where 'cowherd trash restore' brings\n"
        "them back as they were. Refused (exit code 3) while an overlay that is not deleted with them stands on one, and while\n"
        "a machine has one open.",
        "cowherd delete old-web.qcow2 --herd /srv/vms",
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="what to delete")
    parser.add_argument(
        "--force",
        action="store_true",
        help="even though overlays stand on it, which can't be read then, or somebody else made it immutable",
    )
    parser.add_argument("--purge", action="store_true", help="for good, and not into the trash; sealed images only with --force")
    parser.add_ignore_unreadable()
    parser.add_herd()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    from cowherd.herd.trash.trash import purge, trash

    how = {"force": arguments.force, "ignore_unreadable": arguments.ignore_unreadable, "herd": arguments.herd}
    if arguments.purge:
        gone = purge(arguments.images, **how)
        lines = tuple(f"{shown(path)}: deleted, {human_size(size)} freed" for path, size in gone)
        document = [{"path": os.fspath(path), "id": None, "freed_bytes": size} for path, size in gone]
        return Report({"deleted": document}, lines)
    entries = trash(arguments.images, **how)
    lines = tuple(
        f"{shown(entry.path)}: in the trash; 'cowherd trash restore {shown(entry.path)}' brings it back" for entry in entries
    )
    return Report({"deleted": [{"path": os.fspath(entry.path), "id": entry.id, "freed_bytes": 0} for entry in entries]}, lines)
