"""`cowherd report`: writes a herd as one HTML page."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from cowherd.cli.guard.output import Report, progress
from cowherd.text import shown

if TYPE_CHECKING:
    import argparse

    from cowherd.cli.guard.arguments import Parser


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Writes one HTML page about the herd in some directories: lineage, disk use, health with remedies, and where bases have\n"
        "drifted. It needs no other file, loads nothing and runs no script. The exit code is 0 whatever it shows.",
        "cowherd report -o herd.html /srv/vms",
    )
    parser.add_argument("directories", nargs="*", metavar="DIR", help="where to look (default: the current directory)")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the page to write; one that is there is replaced")
    parser.add_argument("--full", action="store_true", help="read the content of all sealed images, and all tables")
    parser.add_herd()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    from cowherd.cli.guard.page import page
    from cowherd.herd.report.overview import overview
    from cowherd.storage.atomic import write_atomically
    from cowherd.storage.filetype import refuse_device_node
    from cowherd.storage.presence import look_up

    seen = overview([*arguments.directories, *arguments.herd], full=arguments.full, progress=progress("reading"))
    text = page(seen).encode("utf-8")
    info = look_up(arguments.output)
    if info and (stat.S_ISFIFO(info.st_mode) or stat.S_ISCHR(info.st_mode)):  # as /dev/stdout, which no file is to replace
        with open(arguments.output, "wb") as output:
            output.write(text)
    else:
        refuse_device_node(arguments.output, "replace")
        write_atomically(arguments.output, text)
    document = {
        "page": os.path.abspath(arguments.output),
        "images": len(seen.tree.nodes),
        "findings": len(seen.diagnosis.findings),
        "healthy": seen.diagnosis.healthy,
        "drifts": len(seen.drifts),
    }
    return Report(document, (f"{shown(arguments.output)}: {len(seen.tree.nodes)} image(s)",))
