"""`cowherd rename`: gives an image another name in the same directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cowherd.cli.guard.order.moving import move_report
from cowherd.errors import InvalidRequest

if TYPE_CHECKING:
    import argparse

    from cowherd.cli.guard.arguments import Parser
    from cowherd.cli.guard.output import Report


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Gives IMAGE another name in the directory where it lies, and rewrites the backing names of its overlays. At every\n"
        "moment each of them leads to its base; killed, the same command goes on.",
        "cowherd rename debian12.qcow2 debian12.0.qcow2",
    )
    parser.add_argument("image", metavar="IMAGE", help="the image to rename")
    parser.add_argument("name", metavar="NAME", help="its new name, without a directory")
    parser.add_dry_run()
    parser.add_ignore_unreadable()
    parser.add_update_domains()
    parser.add_herd()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    from cowherd.herd.overlays.move import move

    if os.path.basename(arguments.name) != arguments.name or arguments.name in ("", ".", ".."):
        raise InvalidRequest("the new name must be a plain file name; 'cowherd move' moves to another directory")
    target = Path(os.path.realpath(arguments.image)).with_name(arguments.name)
    if target.is_dir():
        raise InvalidRequest("a directory has that name; 'cowherd move' moves into it")
    done = move(
        arguments.image,
        target,
        dry_run=arguments.dry_run,
        ignore_unreadable=arguments.ignore_unreadable,
        update_domains=arguments.update_domains,
        herd=arguments.herd,
    )
    return move_report(done, done=not arguments.dry_run)
