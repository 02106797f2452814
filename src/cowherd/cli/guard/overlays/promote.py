"""`cowherd promote`: freezes a machine's disk as a sealed base."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.cli.guard.output import Report, progress
from cowherd.sizes import human_size
from cowherd.text import shown

if TYPE_CHECKING:
    import argparse

    from cowherd.cli.guard.arguments import Parser


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Makes NEWBASE, a sealed image that nobody writes to, from what OVERLAY holds now. By default it is a copy that stands\n"
        "alone, and OVERLAY stays as it is. With --chained nothing is copied: the file itself becomes NEWBASE, with the chain\n"
        "that it has, and an empty overlay of it takes the name OVERLAY, so that the machine goes on from there.",
        "cowherd promote web.qcow2 web-golden.qcow2\ncowherd promote web.qcow2 web-2026-11.qcow2 --chained",
    )
    parser.add_argument("overlay", metavar="OVERLAY", help="a machine's disk, which no running machine has open")
    parser.add_argument("base", metavar="NEWBASE", help="the base to make; it must not be there yet")
    parser.add_argument("--chained", action="store_true", help="keep the chain, copy nothing, and put a new overlay in its place")
    parser.add_argument("--compress", action="store_true", help="compress the copy")
    parser.add_level("base", "readonly")
    parser.add_argument("--force", action="store_true", help="also of a disk that is damaged, cut off, empty or no disk image")
    parser.add_update_domains()
    parser.add_herd()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    from cowherd.errors import InvalidRequest
    from cowherd.herd.overlays.promote import promote

    if arguments.chained and arguments.compress:
        raise InvalidRequest("--compress is for a copy; with --chained nothing is copied")
    done = promote(
        arguments.overlay,
        arguments.base,
        chained=arguments.chained,
        level=arguments.level,
        compress=arguments.compress,
        update_domains=arguments.update_domains,
        herd=arguments.herd,
        force=arguments.force,
        progress=progress(f"making {shown(arguments.base)}"),
    )
    record = done.sealed.record
    lines = [f"{shown(done.base)}: a base of {human_size(record.size)}, sealed, {record.level.label}"]
    if done.overlay:
        lines.append(f"{shown(done.overlay)}: a new overlay of it, in the place of the disk")

    return Report(done.to_json(), tuple(lines))
