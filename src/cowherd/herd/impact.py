"""Which overlays a changed base hits, and where.

For each dependent the layers above the base are laid over each other; where one of them holds bytes of its own the change is
shielded, elsewhere it is exposed. Only tables are read. Internal snapshots of an overlay have tables of their own, which are not
looked at: the answer is about what the overlay shows now.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from cowherd import extents
from cowherd.errors import BackingFileError, CowherdError
from cowherd.herd.content import BLOCK
from cowherd.herd.drift import drift_of, pairs
from cowherd.herd.lineage import survey_around
from cowherd.herd.merging.pending import require_none
from cowherd.image.open import open_disk
from cowherd.live.holders import naming_holders

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any

    from cowherd.extents import Extents, Ranges
    from cowherd.herd.digest import Progress
    from cowherd.herd.inside import Inside
    from cowherd.herd.scan import Image
    from cowherd.image.disk import Disk

INTACT = "intact"
SYNCHRONISED = "synchronised"
TORN = "torn"
UNREADABLE = "unreadable"

_NOTHING = np.empty((0, 2), np.int64)


@dataclass(frozen=True, eq=False)
class Hit:
    """What a drift does to one dependent: guest bytes that it sees changed (`exposed`) and that it does not (`shielded`).

    The ranges are whole blocks of 64 KiB (the last may be shorter) and never go beyond what the overlay can see of its base.
    `problem` says why an overlay is unreadable, None otherwise. `inside` is what a look into its file systems found, if there
    was one.
    """

    path: Path
    verdict: str
    exposed: Ranges
    shielded: Ranges
    problem: str | None = None
    inside: Inside | None = None


@dataclass(frozen=True, eq=False)
class Impact:
    """The changed guest bytes of a base, and what they do to each dependent, by path."""

    base: Path
    changed: Ranges
    overlays: tuple[Hit, ...]

    @property
    def changed_bytes(self) -> int:
        """How many bytes `changed` covers."""
        return extents.total(self.changed)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values: ranges as [start, length] pairs of bytes."""
        return {
            "base": os.fspath(self.base),
            "changed": pairs(self.changed),
            "changed_bytes": self.changed_bytes,
            "overlays": [hit_to_json(hit) for hit in self.overlays],
        }


def hit_to_json(hit: Hit) -> dict[str, Any]:
    """Returns plain values: ranges as [start, length] pairs of bytes."""
    facts: dict[str, Any] = {
        "path": os.fspath(hit.path),
        "verdict": hit.verdict,
        "exposed": pairs(hit.exposed),
        "shielded": pairs(hit.shielded),
    }
    facts |= hit.inside.to_json() if hit.inside else {}
    return facts | ({"problem": hit.problem} if hit.problem else {})


def impact(
    base: str | os.PathLike[str],
    *,
    against: str | os.PathLike[str] | None = None,
    herd: Sequence[str | os.PathLike[str]] = (),
    progress: Progress | None = None,
) -> Impact:
    """Compares `base` with its seal, or with the image `against`, and judges every dependent in the herd.

    Raises `NotSealed` where there is neither, `ImageInUse` if a process has the base open for writing.
    """
    from cowherd.herd.judging import judge_all

    lineage = survey_around(base, herd=herd)
    image = lineage.find(base)
    require_none(lineage, [image], "judge the changes of")
    changed = drift_of(lineage, image, against, progress).changed
    return Impact(image.path, changed, tuple(judge_all(lineage, lineage.dependents(image), image, changed)))


def judge(overlay: Image, base: Image, changed: Ranges) -> Hit:
    """Returns what changed bytes of `base` do to `overlay`; an overlay that can't be opened is unreadable, with the reason."""
    try:
        with naming_holders(), open_disk(overlay.path, format=overlay.format) as disk:
            return judged(overlay.path, disk, depth_of(disk, base), changed)
    except CowherdError as error:
        return Hit(overlay.path, UNREADABLE, _NOTHING, _NOTHING, str(error))


def judged(path: Path, disk: Disk, depth: int, changed: Ranges) -> Hit:
    """Returns what changed bytes of the layer at `depth` of an open disk do to it."""
    visible = extents.intersect(changed, extents.ranges([(0, disk.size)]))
    shown, own = seen_through(disk, depth, visible)
    return hit_by(path, disk.size, changed, shown, lambda: own or has_own_data(disk, depth))


def hit_by(path: Path, size: int, changed: Ranges, shown: Ranges, has_own: Callable[[], bool]) -> Hit:
    """Returns the verdict about an overlay of `size` bytes that shows the bytes `shown` of what has changed."""
    visible = extents.intersect(changed, extents.ranges([(0, size)]))
    exposed = extents.intersect(extents.aligned(shown, BLOCK, size), visible)
    shielded = extents.subtract(visible, exposed)
    if not len(exposed):
        return Hit(path, INTACT, exposed, shielded)
    return Hit(path, TORN if has_own() else SYNCHRONISED, exposed, shielded)


def exposed_bytes(disk: Disk, depth: int, ranges: Ranges) -> Ranges:
    """Returns the parts of `ranges` where the bytes below the top `depth` layers of `disk` show through, to the byte.

    Past the end of a layer above nothing shows through: there are zeros.
    """
    return seen_through(disk, depth, extents.intersect(ranges, extents.ranges([(0, disk.size)])))[0]


def has_own_data(disk: Disk, depth: int) -> bool:
    """Returns whether the top `depth` layers hold anything of their own: data, or clusters that they have made zeros."""
    return any(_holds_data(disk, depth, batch) for batch in disk.extents(depth=depth))


def seen_through(disk: Disk, depth: int, ranges: Ranges) -> tuple[Ranges, bool]:
    """Returns what `exposed_bytes` does, and whether the layers above were seen to hold anything of their own meanwhile."""
    found, own = [_NOTHING], False
    if len(ranges):
        start, end = int(ranges[0, 0]), int(ranges[-1, 1])
        for batch in disk.extents(start, end - start, depth=depth):
            found.append(extents.ranges_of(extents.restrict(extents.of_kind(batch, extents.BACKING), ranges)))
            own = own or _holds_data(disk, depth, batch)
    return extents.normalised(np.concatenate(found)), own


def _holds_data(disk: Disk, depth: int, batch: Extents) -> bool:
    """Whether some of `batch` is its layer's own. Zeros past the end of a layer smaller than the one on it are nobody's."""
    sizes = np.array([layer.size for layer in disk.layers[:depth]], np.int64)
    return bool(((batch["kind"] != extents.BACKING) & (batch["start"] < sizes[batch["depth"]])).any())


def depth_of(disk: Disk, base: Image) -> int:
    """Returns how many layers of `disk` lie above `base`."""
    keys = [(layer.file.device, layer.file.inode) for layer in disk.layers]
    if base.key not in keys:
        raise BackingFileError(disk.path, base.path.name, "opened by this name, the overlay does not stand on it")
    return keys.index(base.key)
