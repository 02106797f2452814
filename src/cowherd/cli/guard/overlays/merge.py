"""`cowherd merge`: puts an overlay's content into its base, and keeps the content of every other overlay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.cli.guard.groups import amounts
from cowherd.cli.guard.output import Report, progress
from cowherd.sizes import human_size
from cowherd.text import counted, shown

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from cowherd.cli.guard.arguments import Parser
    from cowherd.herd.merge.plan import Cost, MergePlan

FAILED = 1
STRATEGIES = ("auto", "preserve", "fork")
_LISTED_AMOUNTS = 6
KEEPS = ("nothing", "empty", "content")


def configure(parser: Parser) -> None:
    """Declares the command's arguments."""
    parser.explain(
        "Writes what OVERLAY holds into its base, or into BASE, a deeper image of its chain. Every other disk keeps its\n"
        "content:\n\n"
        "preserve: first the other overlays of the base get the bytes that they would lose\n"
        "fork: the base stays as it is; a copy of it, reflinked where possible, takes the changes, and what stands on OVERLAY\n"
        "      is put on the copy\n\n"
        "What was written is read again and compared. Only then OVERLAY is removed; what stands on it then stands on the base.\n"
        "Killed at any moment, nothing is lost: 'cowherd recover' finishes the merge or takes it back.",
        "cowherd merge web-update.qcow2 --dry-run\ncowherd merge web-update.qcow2 --into debian12.qcow2 --keep empty",
    )
    parser.add_argument("overlay", metavar="OVERLAY", help="the image to merge")
    parser.add_argument("--into", metavar="BASE", help="an image of its chain (default: the one that it stands on)")
    parser.add_argument(
        "--strategy", choices=STRATEGIES, default="auto", help="how the others are kept (default: auto, which writes less)"
    )
    parser.add_argument(
        "--keep",
        choices=KEEPS,
        default="nothing",
        help="what is left of OVERLAY: nothing (the default), the image without its content, or all of it as it is",
    )
    parser.add_argument("--new-base", metavar="NAME", help="with fork: the name of the copy (default: BASE-merged)")
    parser.add_ignore_unreadable()
    parser.add_dry_run()
    parser.add_update_domains()
    parser.add_all()
    parser.add_herd()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    from cowherd.herd.merge.merge import merge

    done = merge(
        arguments.overlay,
        into=arguments.into,
        strategy=arguments.strategy,
        keep=arguments.keep,
        new_base=arguments.new_base,
        dry_run=arguments.dry_run,
        ignore_unreadable=arguments.ignore_unreadable,
        update_domains=arguments.update_domains,
        herd=arguments.herd,
        progress=progress(f"merging {shown(arguments.overlay)}"),
    )
    notes = tuple(f"cowherd: {shown(path)}: {problem}" for path, problem in done.left)
    if done.plan.unreadable:
        more = f" and {len(done.plan.unreadable) - 1} more" if len(done.plan.unreadable) > 1 else ""
        notes += (f"cowherd: could not look at {shown(done.plan.unreadable[0])}{more}: there may be overlays among them",)
    lines = _lines(done.plan, done.done, None if arguments.all else _LISTED_AMOUNTS)
    return Report(done.to_json(), tuple(lines), notes, exit_code=FAILED if done.left else 0)


def _lines(plan: MergePlan, done: bool, most: int | None) -> Iterator[str]:
    from cowherd.extents import total

    overlay, base = shown(plan.overlay.path), shown(plan.base.path)
    yield f"{base}: {human_size(total(plan.changed))} change{'d' if done else ''} with the content of {overlay}"
    if plan.new_size > plan.old_size:
        yield f"{base}: its size {'went' if done else 'goes'} from {human_size(plan.old_size)} to {human_size(plan.new_size)}"
    exposed = [(shown(hit.path), total(hit.exposed)) for hit in plan.hits if total(hit.exposed)]
    would = "would have shown" if done else "would show"
    for size, names in amounts(exposed, most):
        yield f"  a plain commit {would} {size} of it to {names}"
    if not done:
        yield _priced("preserve", plan.preserve_cost, plan)
        yield _priced("fork", plan.fork_cost, plan)
    yield from _effects(plan, done, most)


def _priced(strategy: str, cost: Cost, plan: MergePlan) -> str:
    chosen = ", chosen" if plan.strategy == strategy else ""
    return f"{strategy}: {human_size(cost.written)} to write to {counted(cost.files, 'file')}, about {cost.seconds:.1f} s{chosen}"


def _effects(plan: MergePlan, done: bool, most: int | None) -> Iterator[str]:
    from cowherd.extents import total

    if plan.strategy == "preserve":
        written = "written" if done else "to be written"
        sizes = [(shown(one.image.path), total(one.writes.ranges)) for one in plan.served if one.is_written]
        for size, names in amounts(sizes, most):
            yield f"  {size} of old content {written} to {names}"
    else:
        yield f"  new base {shown(plan.fork)}; {shown(plan.base.path)} {'stayed' if done else 'stays'} as it is"
    if not done:
        yield "nothing was changed (--dry-run)"
        return
    fate = {"nothing": "removed", "empty": "emptied", "content": "kept as it is"}[plan.keep]
    yield f"{shown(plan.overlay.path)}: merged, verified, {fate}"
