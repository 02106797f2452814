"""`cowherd impact`: shows which overlays a changed base hits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.cli.guard.arguments import Parser
from cowherd.cli.guard.listing import listing
from cowherd.cli.guard.output import Report, progress, table
from cowherd.cli.guard.several import each, is_sealed
from cowherd.cli.guard.usage import UsageError
from cowherd.sizes import human_size
from cowherd.text import printable, shown

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from cowherd.extents import Ranges
    from cowherd.herd.impact.impact import Impact
    from cowherd.herd.impact.verdict import Hit, SnapshotHit

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
        "The exit code is 4 if the base has changed.",
        "cowherd impact debian12.qcow2 --herd /srv/vms\n"
        "cowherd impact debian12.qcow2 --against backup/debian12.qcow2\n"
        "cowherd impact debian12.qcow2 --files --from backup/debian12.qcow2",
    )
    parser.add_argument("base", nargs="+", metavar="BASE", help="the image that changed; of a directory, every sealed one")
    parser.add_argument("--against", metavar="OLD", help="an older copy to compare with, instead of the seal")
    parser.add_argument("--files", action="store_true", help="look inside: which files and file systems the change hits")
    parser.add_argument(
        "--from",
        dest="donors",
        metavar="DONOR",
        action="append",
        default=[],
        help="with --files: an image that holds the old content",
    )
    parser.add_herd()


def run(arguments: argparse.Namespace) -> Report:
    """Carries the command out."""
    return each(arguments, "base", _run, is_sealed)


def _run(arguments: argparse.Namespace) -> Report:
    found = _found(arguments)
    if not found.changed_bytes:
        return Report(found.to_json(), (f"{shown(found.base)}: its content is as it was",))
    lines = [
        f"{shown(found.base)}: {human_size(found.changed_bytes)} changed, in {len(found.changed)} range(s)",
        *(f"  {line}" for line in _ranges(found.changed)),
        *table((hit.verdict, what, _facts(hit)) for what, hit in _judged(found.overlays)),
        *_running(found),
        *(line for hit in found.overlays for line in listing(hit)),
    ]
    notes = [f"cowherd: {what}: {hit.problem}" for what, hit in _judged(found.overlays) if hit.problem]
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
            watch=lambda what, overlay: progress(f"{what} {shown(overlay)}"),
        )
    if arguments.donors:
        raise UsageError("--from says where --files finds the old content", "as in: cowherd impact BASE --files --from DONOR")
    from cowherd.herd.impact.impact import impact

    return impact(arguments.base, against=arguments.against, herd=arguments.herd, progress=watched)


def _judged(hits: Iterable[Hit]) -> Iterator[tuple[str, Hit | SnapshotHit]]:
    """Yields (name, verdict) of each overlay, and after it of its internal snapshots."""
    for hit in hits:
        yield shown(hit.path), hit
        yield from ((f"{shown(hit.path)} (snapshot {printable(one.label)})", one) for one in hit.snapshots)


def _facts(hit: Hit | SnapshotHit) -> str:
    """Returns how much of the change is seen, and behind an overlay that is not intact the machines that run on it."""
    from cowherd.extents import total
    from cowherd.herd.impact.verdict import INTACT, Hit
    from cowherd.herd.machines.running import in_words

    amounts = f"{human_size(total(hit.exposed))} exposed, {human_size(total(hit.shielded))} shielded"
    machines = in_words(hit.machines, 0, 0, hidden=0) if isinstance(hit, Hit) and hit.overall != INTACT else ""
    return f"{amounts}  {machines}" if machines else amounts


def _running(found: Impact) -> Iterator[str]:
    """Yields how many of the overlays that are not intact run at this moment. That none is seen is no proof that none runs."""
    if found.running:
        at_least = "at least " if found.hidden_machines else ""
        yield f"{at_least}{found.running} of {len(found.hit)} overlay(s) that are not intact run at this moment"
    elif found.hit and not found.hidden_machines:
        yield f"no machine is seen on the {len(found.hit)} overlay(s) that are not intact"


def _ranges(ranges: Ranges) -> Iterator[str]:
    for start, end in ranges[:_LISTED_RANGES].tolist():
        yield f"{start:#x} to {end:#x} ({human_size(end - start)})"
    if len(ranges) > _LISTED_RANGES:
        yield f"and {len(ranges) - _LISTED_RANGES} more"
