"""`cowherd bind`: adopts overlays that others made."""

from __future__ import annotations

from cowherd.cli.guard.output import Report, progress
from cowherd.text import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from cowherd.cli.guard.arguments import Parser
    from cowherd.herd.seals.adopt import Adopted


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Makes overlays that others made know what they stand on: the base's format is recorded where it is not, the base is\n"
        "sealed if it is not, and the overlay gets a binding, its own record of what its base held. A directory stands for\n"
        "every overlay in it that has no binding. The content of the base now counts as right: look at the machines first.",
        "cowherd bind /var/lib/libvirt/images\ncowherd bind web.qcow2 --format raw",
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="an overlay, or a directory")
    parser.add_argument("--format", metavar="FMT", help="the base's format, for overlays that record none")
    parser.add_argument("--no-seal", action="store_true", help="leave unsealed bases, and so their overlays, alone")
    parser.add_argument(
        "--rebind",
        "--force",
        action="store_true",
        help="also bind overlays that were made on other content: what they show now counts as right, torn or not",
    )
    parser.add_herd()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    from cowherd.herd.seals.adopt import adopt

    done = adopt(
        arguments.images,
        base_format=arguments.format,
        seal_bases=not arguments.no_seal,
        rebind=arguments.rebind,
        herd=arguments.herd,
        progress=progress("sealing"),
    )
    failed = [one.problem for one in done if one.problem]
    lines = [_line(one) for one in done if not one.problem] or ([] if failed else ["nothing to bind"])
    return Report(
        {"overlays": [one.to_json() for one in done]},
        tuple(lines),
        tuple(f"cowherd: {problem}" for problem in failed),
        exit_code=max((problem.exit_code for problem in failed), default=0),
    )


def _line(one: Adopted) -> str:
    assert one.base is not None
    did = [f"bound to {shown(one.base)}"]
    did += ["which was sealed"] if one.sealed_now else []
    did += [f"its format recorded as {one.format_recorded}"] if one.format_recorded else []
    return f"{shown(one.overlay)}: {', '.join(did)}"
