"""`cowherd clone`: makes a new overlay."""

from __future__ import annotations

from cowherd.cli.guard.arguments import Parser, size_argument
from cowherd.cli.guard.output import Report, progress
from cowherd.sizes import human_size
from cowherd.text import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Makes OVERLAY, a new qcow2 image on BASE, with the base's format recorded, a relative path to it where both lie in one\n"
        "tree, and a binding: the overlay's own record of what its base held. The base is sealed first if it is not.",
        "cowherd clone debian12.qcow2 web.qcow2 --size 20G",
    )
    parser.add_argument("base", metavar="BASE", help="the image to stand on")
    parser.add_argument("overlay", metavar="OVERLAY", help="the image to make; it must not be there yet")
    parser.add_argument("--size", type=size_argument, metavar="S", help="virtual size (default: that of the base)")
    parser.add_argument("--format", metavar="FMT", help="the base's format, where neither a seal nor an overlay records it")
    parser.add_argument(
        "--no-seal", action="store_true", help="leave an unsealed base unsealed; the overlay gets no binding then"
    )
    parser.add_argument("--force", action="store_true", help="also of a base that is damaged, cut off, empty or no disk image")
    parser.add_herd()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    from cowherd.herd.overlays.clone import clone

    made = clone(
        arguments.base,
        arguments.overlay,
        size=arguments.size,
        base_format=arguments.format,
        seal_base=not arguments.no_seal,
        herd=arguments.herd,
        force=arguments.force,
        progress=progress(f"sealing {shown(arguments.base)}"),
    )

    bound = "bound to its seal" if made.binding else "not bound, since its base is not sealed"
    lines = [f"{shown(made.filename)}: an overlay of {human_size(made.size)} on {shown(made.base_filename)}, {bound}"]
    if made.sealed:
        lines.insert(0, f"{shown(made.base_filename)}: sealed")
    return Report(made.to_json(), tuple(lines))
