"""`cowherd impact`: shows which overlays a changed base hits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.cli.guard.arguments import Parser
from cowherd.cli.guard.look.verdicts import gathered, insides, verdicts
from cowherd.cli.guard.output import Report, progress
from cowherd.cli.guard.several import each, is_sealed
from cowherd.cli.guard.usage import UsageError
from cowherd.sizes import human_size
from cowherd.text import counted, shown

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cowherd.extents import Ranges
    from cowherd.herd.impact.impact import Impact

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
        "--files looks at what is inside: which files of each overlay hold other bytes, appeared or vanished, which structures\n"
        "of its file systems are hit, and a verdict by that. It may then also be\n\n"
        "harmless: exposed only where the overlay's file systems hold nothing\n"
        "synchronised: what it sees is the base's own file system, whole\n"
        "altered: the file systems are whole, and files in them hold other bytes\n\n"
        "The internal snapshots of an overlay read the base too, and each is judged in a line of its own: by what the disk\n"
        "would show with it applied. One with a machine's saved memory is torn by whatever it sees of the change. --files does\n"
        "not look into them.\n\n"
        "Overlays of which the same is to be said stand together, the worst first.\n\n"
        "The exit code is 4 if the base has changed.",
        "cowherd impact debian12.qcow2 --herd /srv/vms\n"
        "cowherd impact debian12.qcow2 --against backup/debian12.qcow2\n"
        "cowherd impact debian12.qcow2 --files --from backup/debian12.qcow2",
    )
    parser.add_argument("base", nargs="+", metavar="BASE", help="the image that changed; of a directory, every sealed one")
    parser.add_argument("--against", metavar="OLD", help="an older copy to compare with, instead of the seal")
    parser.add_argument("--files", action="store_true", help="look inside: which files and file systems the change hits")
    parser.add_donors("with --files: an image that holds the old content")
    parser.add_all()
    parser.add_herd()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    return each(arguments, "base", _run, is_sealed)


def _run(arguments: argparse.Namespace) -> Report:
    found = _found(arguments)
    if not found.changed_bytes:
        return Report(found.to_json(), (f"{shown(found.base)}: its content is as it was",))
    groups = gathered(found.overlays, each=arguments.all)
    lines = [
        f"{shown(found.base)}: {human_size(found.changed_bytes)} changed, in {counted(len(found.changed), 'range')}",
        *(f"  {line}" for line in _ranges(found.changed, None if arguments.all else _LISTED_RANGES)),
        *verdicts(groups, each=arguments.all),
        *_running(found),
        *insides(groups, each=arguments.all),
    ]
    notes = [f"cowherd: {group.names}: {problem}" for group in groups for problem in group.problems]
    if arguments.files and any(hit.snapshots for hit in found.overlays):
        notes.append("cowherd: internal snapshots are judged by their blocks; --files does not look into them")
    if found.hit and found.hidden_machines:
        from cowherd.herd.machines.running import hidden_in_words

        notes.append(f"cowherd: {hidden_in_words(found.hidden_machines)}")
    return Report(found.to_json(), tuple(lines), tuple(notes), exit_code=FOUND)


def _found(arguments: argparse.Namespace) -> Impact:
    watched = progress(f"reading {shown(arguments.base)}")
    if arguments.files:
        from cowherd.herd.impact.files import impact_on_files

        return impact_on_files(
            arguments.base,
            against=arguments.against,
            donors=arguments.donors,
            herd=arguments.herd,
            progress=watched,
            watch=_progress_inside,
        )
    if arguments.donors:
        raise UsageError("--from says where --files finds the old content", "as in: cowherd impact BASE --files --from DONOR")
    from cowherd.herd.impact.impact import impact

    return impact(arguments.base, against=arguments.against, herd=arguments.herd, progress=watched)


def _progress_inside(what: str, overlay: Path) -> Callable[[int, int], None] | None:
    from cowherd.herd.impact.inside import COMPARING

    return progress(f"{what} {shown(overlay)}", unit="files" if what == COMPARING else "B")


def _running(found: Impact) -> Iterator[str]:
    """Yields how many of the overlays that are not intact run at this moment. That none is seen is no proof that none runs."""
    if found.running:
        at_least = "at least " if found.hidden_machines else ""
        yield f"{at_least}{found.running} of {_not_intact(found)} {'runs' if found.running == 1 else 'run'} at this moment"
    elif found.hit and not found.hidden_machines:
        yield f"no machine is seen on the {_not_intact(found)}"


def _not_intact(found: Impact) -> str:
    return f"{counted(len(found.hit), 'overlay')} that {'is' if len(found.hit) == 1 else 'are'} not intact"


def _ranges(ranges: Ranges, most: int | None) -> Iterator[str]:
    for start, end in ranges[:most].tolist():
        yield f"{start:#x} to {end:#x} ({human_size(end - start)})"
    if most is not None and len(ranges) > most:
        yield f"and {len(ranges) - most} more"
