"""`cowherd repair`: undoes drift, or keeps it from the overlays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.cli.guard.output import Report, progress
from cowherd.cli.guard.several import each, is_sealed
from cowherd.sizes import human_size
from cowherd.text import shown

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from cowherd.cli.guard.arguments import Parser
    from cowherd.herd.repair.plan import RepairPlan

FAILED = 1


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Brings BASE back to its sealed content, block by block. Every block that a donor gives is compared with the seal\n"
        "before it is written. Without --from, donors are found: the shadow, and images and raw files of the same size in the\n"
        "herd.\n\n"
        "With --preserve the base stays as it has become, and the old blocks are written into every overlay that would\n"
        "otherwise see the new ones; then the base is sealed as it is and the overlays are bound to that.\n\n"
        "A BASE that is gone while its seal is left is made anew, also from its deleted file while a process has that open.\n\n"
        "Interrupted, it can be run again and goes on from there.",
        "cowherd repair debian12.qcow2 --from backup/debian12.raw --dry-run",
    )
    parser.add_argument("base", nargs="+", metavar="BASE", help="a sealed image; of a directory, all that are sealed")
    parser.add_donors("an image that holds old blocks (may be repeated)")
    parser.add_argument("--preserve", action="store_true", help="keep the base as it is, and the overlays as they were")
    parser.add_ignore_unreadable()
    parser.add_dry_run()
    parser.add_herd()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    return each(arguments, "base", _run, is_sealed)


def _run(arguments: argparse.Namespace) -> Report:
    from cowherd.herd.repair.repair import repair

    done = repair(
        arguments.base,
        donors=arguments.donors,
        preserve=arguments.preserve,
        dry_run=arguments.dry_run,
        ignore_unreadable=arguments.ignore_unreadable,
        herd=arguments.herd,
        progress=progress(f"repairing {shown(arguments.base)}"),
    )
    notes = tuple(f"cowherd: {shown(path)}: {problem}" for path, problem in done.left)
    return Report(done.to_json(), tuple(_lines(done.plan, done.done)), notes, exit_code=FAILED if done.left else 0)


def _lines(plan: RepairPlan, done: bool) -> Iterator[str]:
    from cowherd.extents import total

    base = shown(plan.base.path)
    if not len(plan.changed) and plan.size == plan.sealed_size:
        yield f"{base}: its content is as sealed; nothing to repair"
        return
    if plan.gone:
        yield f"{base}: it is gone; its seal tells what it held: {human_size(plan.sealed_size)}"
    elif plan.size != plan.sealed_size:
        yield f"{base}: its size is {human_size(plan.size)} and was {human_size(plan.sealed_size)}"
    yield f"{base}: {human_size(total(plan.changed))} {'of data' if plan.gone else 'changed'}"
    for donor, amount in plan.located.bytes_by_donor():
        yield f"  {human_size(amount)} from {shown(donor)}"
    if plan.located.zero_bytes:
        yield f"  {human_size(plan.located.zero_bytes)} of zeros"
    for write in plan.writes:
        yield f"  {human_size(total(write.ranges))} {'written' if done else 'to be written'} to {shown(write.image.path)}"
    if not done:
        yield "nothing was changed (--dry-run)"
    elif plan.preserve:
        yield f"{base}: its overlays hold what it lost; it is sealed as it is now"
    else:
        yield f"{base}: {'there again, ' if plan.gone else ''}as sealed{'' if plan.gone else ' again'}"
