"""`cowherd move`: moves an image with all that names it, and repairs links after somebody moved one by hand."""

from __future__ import annotations

from cowherd.cli.guard.order.moving import move_report
from cowherd.cli.guard.output import Report, progress
from cowherd.errors import InvalidRequest
from cowherd.text import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from cowherd.cli.guard.arguments import Parser
    from cowherd.herd.overlays.relink import Relinked


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Moves the image SRC to DST, a name or a directory, with its seal, and rewrites the backing names of its overlays. At\n"
        "every moment each of them leads to its base; killed, the same command goes on. Across file systems the image is copied\n"
        "and the copy read back first. Overlays are looked for beside SRC and DST and under --herd.\n\n"
        "With --repair, overlays (or all in a directory) whose base is not where they say get its name right: a lost base is\n"
        "found by its content, as bindings and seals record it, and its seal is brought along. The exit code is 4 if one is not\n"
        "found.",
        "cowherd move debian12.qcow2 /srv/bases/ --herd /srv/vms\ncowherd move --repair /srv/vms --herd /srv/bases",
    )
    parser.add_argument("paths", nargs="+", metavar="SRC DST", help="from where to where; with --repair: overlays or directories")
    parser.add_argument("--repair", action="store_true", help="find lost bases by their content, and rewrite names")
    parser.add_dry_run()
    parser.add_ignore_unreadable()
    parser.add_update_domains()
    parser.add_herd()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    if arguments.repair:
        return _repair(arguments)
    if len(arguments.paths) != 2:
        raise InvalidRequest("move needs exactly two names, SRC and DST")
    from cowherd.herd.overlays.move import move

    source, target = arguments.paths
    how = {"dry_run": arguments.dry_run, "ignore_unreadable": arguments.ignore_unreadable, "herd": arguments.herd}
    how |= {"update_domains": arguments.update_domains}
    how |= {"progress": progress(f"copying {shown(source)}")}
    return move_report(move(source, target, **how), done=not arguments.dry_run)


def _repair(arguments: argparse.Namespace) -> Report:
    from cowherd.herd.overlays.relink import relink

    done = relink(arguments.paths, dry_run=arguments.dry_run, herd=arguments.herd, progress=progress("looking for lost bases"))
    failed = [one.problem for one in done if one.problem]
    lines = [_line(one, arguments.dry_run) for one in done if not one.problem] or ([] if failed else ["nothing to repair"])
    document = {"overlays": [one.to_json() for one in done], "done": not arguments.dry_run}
    notes = tuple(f"cowherd: {problem}" for problem in failed)
    return Report(document, tuple(lines), notes, exit_code=max((problem.exit_code for problem in failed), default=0))


def _line(one: Relinked, dry_run: bool) -> str:
    assert one.base is not None
    how = ", found by its content" if one.by_content else ""
    return f"{shown(one.overlay)}: {'would stand' if dry_run else 'stands'} on {shown(one.base)}{how}"
