"""An overview of a herd at one moment: its tree, its health, and where its bases have drifted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cowherd.extents import total
from cowherd.herd.doctor.doctor import Diagnosis, diagnosis_of
from cowherd.herd.lineage.survey import survey
from cowherd.herd.machines.running import look_at
from cowherd.herd.records.sealfile import read_digests
from cowherd.herd.records.status import Status
from cowherd.herd.report.readings import Readings
from cowherd.herd.report.tree import Tree, tree_of
from cowherd.herd.seals.verify import Checker
from cowherd.paths import path_names
from cowherd.progress import of_each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

    from cowherd.extents import Ranges
    from cowherd.herd.impact.inside import Inside
    from cowherd.herd.impact.verdict import Hit
    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.machines.running import Machine
    from cowherd.paths import PathNames
    from cowherd.progress import Progress, Reading

Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class DriftPicture:
    """Where a base differs from its seal: [start, end) of guest bytes in a disk of `size`; `problem` if it can't be read.

    `hits` are its dependents, by path, if anything changed.
    """

    path: Path
    size: int
    changed: Spans
    problem: str | None = None
    hits: tuple[HitPicture, ...] = ()


@dataclass(frozen=True)
class HitPicture:
    """What the change does to one dependent, as `cowherd.impact` finds: [start, end) of guest bytes that it sees change or not.

    `snapshot` names an internal snapshot of the dependent if this is about that, None for its present state. `machines` are those
    that are seen to run on it. `inside` is what a look into its file systems found, if there was one.
    """

    path: Path
    verdict: str
    exposed: Spans
    shielded: Spans
    problem: str | None
    snapshot: str | None = None
    machines: tuple[Machine, ...] = ()
    inside: Inside | None = None


@dataclass(frozen=True)
class Overview:
    """A herd as it was at `made` (ISO 8601, UTC)."""

    made: str
    tree: Tree
    diagnosis: Diagnosis
    drifts: tuple[DriftPicture, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns plain values: how much there is of what; `tree` and `diagnosis` have documents of their own."""
        return {
            "images": len(self.tree.nodes),
            "findings": len(self.diagnosis.findings),
            "healthy": self.diagnosis.healthy,
            "drifts": len(self.drifts),
        }


@dataclass(frozen=True)
class Look:
    """How closely to look: `full` reads all sealed images, `files` looks inside of the overlays that a change hits.

    `donors` hold old content for that. `reading(name)` is called before an image is read, `watch(what, overlay)` before each step
    inside; either returns a progress, or None.
    """

    full: bool = False
    files: bool = False
    donors: tuple[Path, ...] = ()
    reading: Reading | None = None
    watch: Callable[[str, Path], Progress | None] | None = None


def overview(directories: PathNames = (), *, full: bool = False, progress: Progress | None = None) -> Overview:
    """Examines the herd in `directories` (the current one by default); changes nothing.

    It reads bases whose files are not as their seals left them, to find where they differ; with `full` it reads all sealed
    images. So every status in it is that of the content, but for a base that can't be read now.
    """
    return look_over(directories, Look(full=full, reading=of_each(progress)), Readings())


def look_over(directories: PathNames, look: Look, readings: Readings) -> Overview:
    """Does so as `look` says. What `readings` knows of content is not read again; what is read now is known to it afterwards."""
    directories = path_names(directories)
    lineage = survey(directories or ["."])
    runs = look_at(lineage, only_machines=False)
    states = readings.states(lineage)
    checker = Checker(full=look.full, doubtful=True, known=readings.known(states), reading=look.reading)
    found = tree_of(lineage, runs, checker)
    diagnosis = diagnosis_of(lineage, full=look.full, reading=look.reading, runs=runs, checker=checker)
    readings.note(states, checker.differences)
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return Overview(made, found, diagnosis, tuple(_drifts(lineage, found, checker, look)))


def _drifts(lineage: Lineage, found: Tree, checker: Checker, look: Look) -> Iterator[DriftPicture]:
    machines = {node.image.key: node.machines for node in found.nodes}
    for node in found.nodes:
        difference = checker.differences.get(node.image.key)
        if difference is not None and difference.changed is not None:
            hits = _hits(lineage, node.image, difference.changed, look) if total(difference.changed) else ()
            pictures = tuple(picture for one, hit in hits for picture in _pictures_of(hit, machines.get(one.key, ())))
            size = max(difference.sealed_size, difference.size)
            yield DriftPicture(node.path, size, _spans(difference.changed), None, pictures)
        elif difference is not None and node.detail:
            yield DriftPicture(node.path, difference.size, ())
        elif node.level is not None and (node.image.key in checker.unread or node.status in (Status.DRIFTED, Status.REPLACED)):
            yield DriftPicture(node.path, 0, (), checker.unread.get(node.image.key, node.detail))


def _hits(lineage: Lineage, base: Image, changed: Ranges, look: Look) -> Iterator[tuple[Image, Hit]]:
    from cowherd.herd.impact.judging import judge_all

    overlays = lineage.dependents(base)
    hits = judge_all(lineage, overlays, base, changed)
    if look.files:
        from cowherd.herd.impact.files import look_into

        _, old = read_digests(base.expected_seal)
        hits = look_into(lineage, base, old, changed, hits, look.donors, look.watch)
    return zip(overlays, hits, strict=True)


def _pictures_of(hit: Hit, machines: tuple[Machine, ...]) -> Iterator[HitPicture]:
    seen, kept = _spans(hit.exposed), _spans(hit.shielded)
    yield HitPicture(hit.path, hit.verdict, seen, kept, hit.problem, machines=machines, inside=hit.inside)
    for one in hit.snapshots:
        yield HitPicture(hit.path, one.verdict, _spans(one.exposed), _spans(one.shielded), one.problem, one.label)


def _spans(ranges: Ranges) -> Spans:
    return tuple((start, end) for start, end in ranges.tolist())
