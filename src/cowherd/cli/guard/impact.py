"""`cowherd impact`: whom a changed base hits."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cowherd.cli.guard.arguments import Parser
from cowherd.cli.guard.output import Report, progress, table
from cowherd.sizes import human_size
from cowherd.text import shown

if TYPE_CHECKING:
    from cowherd.extents import Ranges
    from cowherd.herd.impact import Hit

FOUND = 4
_LISTED_RANGES = 4


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Compares BASE with its seal, or with an older copy of it, and says of every overlay that depends on it which changed\n"
        "ranges it sees (exposed) and which it does not (shielded: it has its own copy).\n\n"
        "intact: nothing is exposed\n"
        "synchronised: exposed, but the overlay has written nothing: it just shows the new content\n"
        "torn: exposed, and the overlay holds writes of its own, made on the old content\n\n"
        "The exit code is 4 if the base has changed. What the internal snapshots of an overlay see is not looked at.",
        "cowherd impact debian12.qcow2 --herd /srv/vms\ncowherd impact debian12.qcow2 --against backup/debian12.qcow2",
    )
    parser.add_argument("base", metavar="BASE", help="the image that changed")
    parser.add_argument("--against", metavar="OLD", help="an older copy to compare with, instead of the seal")
    parser.add_herd()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    from cowherd.herd.impact import impact

    found = impact(
        arguments.base,
        against=arguments.against,
        herd=arguments.herd,
        progress=progress(f"reading {shown(arguments.base)}"),
    )
    if not found.changed_bytes:
        return Report(found.to_json(), (f"{shown(found.base)}: its content is as it was",))
    lines = [
        f"{shown(found.base)}: {human_size(found.changed_bytes)} changed, in {len(found.changed)} range(s)",
        *(f"  {line}" for line in _ranges(found.changed)),
        *table((hit.verdict, shown(hit.path), _amounts(hit)) for hit in found.overlays),
    ]
    notes = tuple(f"cowherd: {shown(hit.path)}: {hit.problem}" for hit in found.overlays if hit.problem)
    return Report(found.to_json(), tuple(lines), notes, exit_code=FOUND)


def _amounts(hit: Hit) -> str:
    from cowherd.extents import total

    return f"{human_size(total(hit.exposed))} exposed, {human_size(total(hit.shielded))} shielded"


def _ranges(ranges: Ranges) -> Iterator[str]:
    for start, end in ranges[:_LISTED_RANGES].tolist():
        yield f"{start:#x} to {end:#x} ({human_size(end - start)})"
    if len(ranges) > _LISTED_RANGES:
        yield f"and {len(ranges) - _LISTED_RANGES} more"
