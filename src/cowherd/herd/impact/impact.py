"""Finds the overlays that a changed base hits, and where.

For each dependent it lays the layers above the base over each other. Where one of them holds bytes of its own, the change is
shielded; elsewhere it is exposed. It reads only tables. An internal snapshot of an overlay has tables of its own and reads the
same backing file, so each is judged like another overlay: by what the disk would show with that snapshot applied.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cowherd import extents
from cowherd.herd.impact.verdict import Hit, hit_to_json
from cowherd.herd.lineage.pending import require_none
from cowherd.herd.lineage.survey import survey_around
from cowherd.herd.seals.drift import drift_of, pairs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from cowherd.extents import Ranges
    from cowherd.paths import PathName
    from cowherd.progress import Progress

    Verdict = tuple[str, Ranges, Ranges]
    """A verdict, and the blocks that are exposed and shielded."""


@dataclass(frozen=True, eq=False)
class Impact:
    """The changed guest bytes of a base, and what they do to each dependent, by path."""

    base: Path
    changed: Ranges
    overlays: tuple[Hit, ...]

    @property
    def changed_bytes(self) -> int:
        """Number of bytes in `changed`."""
        return extents.total(self.changed)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values: ranges as [start, length] pairs of bytes."""
        return {
            "base": os.fspath(self.base),
            "changed": pairs(self.changed),
            "changed_bytes": self.changed_bytes,
            "overlays": [hit_to_json(hit) for hit in self.overlays],
        }


def impact(
    base: PathName,
    *,
    against: PathName | None = None,
    herd: Sequence[PathName] = (),
    progress: Progress | None = None,
) -> Impact:
    """Compares `base` with its seal, or with the image `against`, and judges every dependent in the herd.

    Raises `NotSealed` if there is neither, `ImageInUse` if a process has the base open for writing.
    """
    from cowherd.herd.impact.judging import judge_all

    lineage = survey_around(base, herd=herd)
    image = lineage.find(base)
    require_none(lineage, [image], "judge the changes of")
    changed = drift_of(lineage, image, against, progress).changed
    return Impact(image.path, changed, tuple(judge_all(lineage, lineage.dependents(image), image, changed)))
