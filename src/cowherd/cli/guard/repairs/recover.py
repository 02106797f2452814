"""`cowherd recover`: ends merges that were interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.cli.guard.output import Report, progress
from cowherd.text import shown

if TYPE_CHECKING:
    import argparse

    from cowherd.cli.guard.arguments import Parser
    from cowherd.herd.merge.recover import Recovered

FAILED = 1


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Ends every merge under DIR that was interrupted. One that has not begun to change its base is taken back; every other\n"
        "one is finished, and verified. What can't be ended now, because a machine has an image open or the disk is full, stays\n"
        "as it is and can be tried again.",
        "cowherd recover /var/lib/libvirt/images",
    )
    parser.add_argument("directories", nargs="*", metavar="DIR", help="where to look (default: the current directory)")
    parser.add_herd()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    from cowherd.herd.merge.recover import recover

    ended = recover([*arguments.directories, *arguments.herd], progress=progress("recovering"))
    errors = [one.error for one in ended if one.error]
    left = [problem for one in ended for problem in one.left]
    notes = [f"cowherd: {error}" for error in errors] + [f"cowherd: {shown(path)}: {problem}" for path, problem in left]
    code = errors[0].exit_code if errors else FAILED if left else 0
    lines = tuple(map(_line, ended)) or ("no merge was interrupted",)
    return Report({"merges": [one.to_json() for one in ended]}, lines, tuple(notes), exit_code=code)


def _line(one: Recovered) -> str:
    if one.overlay is None or one.base is None:
        return f"{shown(one.journal)}: {one.outcome}"
    return f"the merge of {shown(one.overlay)} into {shown(one.base)}: {one.outcome}"
