"""An overview of a herd at one moment: its tree, its health, and where its bases have drifted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cowherd.errors import CowherdError
from cowherd.herd.doctor.doctor import Diagnosis, diagnosis_of
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.survey import survey
from cowherd.herd.machines.running import look_at
from cowherd.herd.records.status import Status
from cowherd.herd.report.tree import Tree, tree_of
from cowherd.paths import path_names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from cowherd.extents import Ranges
    from cowherd.herd.impact.verdict import Hit
    from cowherd.herd.machines.running import Machine, Runs
    from cowherd.paths import PathNames
    from cowherd.progress import Progress

Spans = tuple[tuple[int, int], ...]

_MAY_HAVE_DRIFTED = (Status.TOUCHED, Status.DRIFTED, Status.REPLACED)


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
    that are seen to run on it.
    """

    path: Path
    verdict: str
    exposed: Spans
    shielded: Spans
    problem: str | None
    snapshot: str | None = None
    machines: tuple[Machine, ...] = ()


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


def overview(directories: PathNames = (), *, full: bool = False, progress: Progress | None = None) -> Overview:
    """Examines the herd in `directories` (the current one by default); changes nothing.

    It reads bases whose files are not as their seals left them, to find where they differ; with `full` it reads all sealed
    images.
    """
    directories = path_names(directories)
    lineage = survey(directories or ["."])
    runs = look_at(lineage, only_machines=False)
    found = tree_of(lineage, runs)
    diagnosis = diagnosis_of(lineage, full=full, progress=progress, runs=runs)
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return Overview(made, found, diagnosis, tuple(_drifts(lineage, runs, found, diagnosis, progress)))


def _drifts(lineage: Lineage, runs: Runs, found: Tree, diagnosis: Diagnosis, progress: Progress | None) -> list[DriftPicture]:
    suspects = {node.path for node in found.nodes if node.level is not None and node.status in _MAY_HAVE_DRIFTED}
    suspects |= {finding.path for finding in diagnosis.findings if finding.kind.value == Status.DRIFTED.value}
    return [_picture(lineage, runs, path, progress) for path in sorted(suspects)]


def _picture(lineage: Lineage, runs: Runs, path: Path, progress: Progress | None) -> DriftPicture:
    from cowherd.herd.impact.judging import judge_all
    from cowherd.herd.seals.drift import drift_of

    try:
        base = lineage.find(path)
        drift = drift_of(lineage, base, None, progress)
    except CowherdError as error:
        return DriftPicture(path, 0, (), str(error))
    overlays = lineage.dependents(base) if len(drift.changed) else []
    hits = zip(overlays, judge_all(lineage, overlays, base, drift.changed), strict=True)
    pictures = tuple(picture for one, hit in hits for picture in _pictures_of(hit, runs.machines.get(one.key, ())))
    return DriftPicture(path, max(drift.old.size, drift.new.size), _spans(drift.changed), None, pictures)


def _pictures_of(hit: Hit, machines: tuple[Machine, ...]) -> Iterator[HitPicture]:
    yield HitPicture(hit.path, hit.verdict, _spans(hit.exposed), _spans(hit.shielded), hit.problem, machines=machines)
    for one in hit.snapshots:
        yield HitPicture(hit.path, one.verdict, _spans(one.exposed), _spans(one.shielded), one.problem, one.label)


def _spans(ranges: Ranges) -> Spans:
    return tuple((start, end) for start, end in ranges.tolist())
