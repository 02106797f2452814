"""`cowherd flatten`: makes an overlay stand alone."""

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
        "Copies into OVERLAY everything that it shows through its base, and makes it stand alone. What it shows, and what\n"
        "stands on it, stays the same. Free space is checked first; interrupted, it can be run again.",
        "cowherd flatten web.qcow2 --dry-run",
    )
    parser.add_argument("overlay", metavar="OVERLAY", help="an overlay that no running machine has open")
    parser.add_dry_run("what would be copied at most")
    parser.add_herd()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    from cowherd.herd.overlays.flatten import flatten

    done = flatten(
        arguments.overlay,
        dry_run=arguments.dry_run,
        herd=arguments.herd,
        progress=progress(f"flattening {shown(arguments.overlay)}"),
    )
    return Report(done.to_json(), (rebased_line(done),))
