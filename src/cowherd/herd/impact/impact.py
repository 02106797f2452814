"""Finds the overlays that a changed base hits, and where.

For each dependent it lays the layers above the base over each other. Where one of them holds bytes of its own, the change is
shielded; elsewhere it is exposed. It reads only tables. An internal snapshot of an overlay has tables of its own and reads the
same backing file, so each is judged like another overlay: by what the disk would show with that snapshot applied.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cowherd import extents
from cowherd.herd.impact.verdict import INTACT, Hit, hit_to_json
from cowherd.herd.lineage.pending import require_none
from cowherd.herd.lineage.survey import survey_around
from cowherd.herd.machines.running import NOTHING_RUNS, running_on
from cowherd.herd.seals.drift import drift_of, pairs
from cowherd.paths import path_names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from cowherd.extents import Ranges
    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image
    from cowherd.paths import PathName, PathNames
    from cowherd.progress import Progress

    Verdict = tuple[str, Ranges, Ranges]
    """A verdict, and the blocks that are exposed and shielded."""


@dataclass(frozen=True, eq=False)
class Impact:
    """The changed guest bytes of a base, and what they do to each dependent, by path.

    `hidden_machines` is the number of machines that this user may not look into, so that they may run on any overlay.
    """

    base: Path
    changed: Ranges
    overlays: tuple[Hit, ...]
    hidden_machines: int = 0

    @property
    def changed_bytes(self) -> int:
        """Number of bytes in `changed`."""
        return extents.total(self.changed)

    @property
    def hit(self) -> tuple[Hit, ...]:
        """The overlays that are not intact, be it only in a snapshot."""
        return tuple(hit for hit in self.overlays if hit.overall != INTACT)

    @property
    def running(self) -> int:
        """Number of the overlays in `hit` that machines are seen to run on."""
        return sum(bool(hit.machines) for hit in self.hit)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values: ranges as [start, length] pairs of bytes."""
        return {
            "base": os.fspath(self.base),
            "changed": pairs(self.changed),
            "changed_bytes": self.changed_bytes,
            "overlays": [hit_to_json(hit) for hit in self.overlays],
            "running_overlays": self.running,
            "hidden_machines": self.hidden_machines,
        }


def impact(
    base: PathName,
    *,
    against: PathName | None = None,
    herd: PathNames = (),
    progress: Progress | None = None,
) -> Impact:
    """Compares `base` with its seal, or with the image `against`, and judges every dependent in the herd.

    Raises `NotSealed` if there is neither, `ImageInUse` if a process has the base open for writing.
    """
    from cowherd.herd.impact.judging import judge_all

    herd = path_names(herd)

    lineage = survey_around(base, herd=herd)
    image = lineage.find(base)
    require_none(lineage, [image], "judge the changes of")
    changed = drift_of(lineage, image, against, progress).changed
    overlays = lineage.dependents(image)
    return impact_of(lineage, image, changed, overlays, judge_all(lineage, overlays, image, changed))


def impact_of(lineage: Lineage, base: Image, changed: Ranges, overlays: Sequence[Image], hits: Sequence[Hit]) -> Impact:
    """Returns the verdicts about `overlays`, each with the machines that run on it at this moment."""
    runs = running_on(lineage) if len(changed) else NOTHING_RUNS
    told = [replace(hit, machines=runs.machines.get(one.key, ())) for one, hit in zip(overlays, hits, strict=True)]
    return Impact(base.path, changed, tuple(told), runs.hidden)
