"""`cowherd retarget`: moves overlays to another base."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.cli.guard.output import Report, progress
from cowherd.cli.guard.overlays.rebased import rebased_line
from cowherd.text import shown

if TYPE_CHECKING:
    import argparse

    from cowherd.cli.guard.arguments import Parser


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Makes each OVERLAY stand on NEWBASE, and keeps what it shows: blocks that it left to its old base and that NEWBASE has\n"
        "not got are written into it. Where both bases are sealed, the seals say which blocks differ, and no others are read;\n"
        "between bases of the same content only the overlay's header changes. Interrupted, it can be run again.",
        "cowherd retarget web.qcow2 db.qcow2 --onto debian12.1.qcow2",
    )
    parser.add_argument("overlays", nargs="+", metavar="OVERLAY", help="overlays that no running machine has open")
    parser.add_argument("--onto", required=True, metavar="NEWBASE", help="the image to stand on from now on")
    parser.add_argument("--format", metavar="FMT", help="the format of NEWBASE, where neither a seal nor an overlay records it")
    parser.add_dry_run("what would be copied at most")
    parser.add_herd()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    from cowherd.herd.overlays.retarget import retarget

    done = retarget(
        arguments.overlays,
        arguments.onto,
        base_format=arguments.format,
        dry_run=arguments.dry_run,
        herd=arguments.herd,
        progress=progress(f"moving to {shown(arguments.onto)}"),
    )
    return Report({"overlays": [one.to_json() for one in done]}, tuple(map(rebased_line, done)))
