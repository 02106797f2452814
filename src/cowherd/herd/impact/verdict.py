"""What changed bytes of a base do to one overlay, and to its internal snapshots."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cowherd import extents
from cowherd.errors import BackingFileError, CowherdError
from cowherd.herd.records.block import BLOCK
from cowherd.herd.seals.drift import pairs
from cowherd.image.open import open_disk
from cowherd.image.snapshots import snapshot_disk, snapshots_of
from cowherd.live.holders import naming_holders
from cowherd.ops.exposure import NO_RANGES, has_own_data, seen_through

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from cowherd.extents import Ranges
    from cowherd.formats.qcow2.snapshots import Snapshot
    from cowherd.herd.impact.inside import Inside
    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.machines.running import Machine
    from cowherd.image.disk import Disk

    Verdict = tuple[str, Ranges, Ranges]
    """A verdict, and the blocks that are exposed and shielded."""

INTACT = "intact"


SYNCHRONISED = "synchronised"


TORN = "torn"


UNREADABLE = "unreadable"


WORST_LAST = (INTACT, "harmless", SYNCHRONISED, "altered", UNREADABLE, TORN)
"""All verdicts, also those of `cowherd.herd.impact.inside`."""


@dataclass(frozen=True, eq=False)
class SnapshotHit:
    """What a drift does to one internal snapshot: fields as in `Hit`, for the disk that was saved. `name` may be empty."""

    id: str
    name: str
    verdict: str
    exposed: Ranges
    shielded: Ranges
    problem: str | None = None

    @property
    def label(self) -> str:
        """Its name, or its id if it has no name."""
        return self.name or self.id

    def to_json(self) -> dict[str, Any]:
        """Returns plain values: ranges as [start, length] pairs of bytes."""
        facts: dict[str, Any] = {"id": self.id, "name": self.name, "verdict": self.verdict}
        facts |= {"exposed": pairs(self.exposed), "shielded": pairs(self.shielded)}
        return facts | ({"problem": self.problem} if self.problem else {})


@dataclass(frozen=True, eq=False)
class Hit:
    """What a drift does to one dependent: guest bytes that it sees changed (`exposed`) and that it does not (`shielded`).

    The ranges are whole blocks of 64 KiB (the last may be shorter) and never go beyond what the overlay can see of its base.
    `problem` says why an overlay is unreadable, None otherwise. `inside` is what a look into its file systems found, if there
    was one. All this is about what the overlay shows now; `snapshots` are its internal snapshots, in the order of its table.
    `machines` are those that are seen to run on it.
    """

    path: Path
    verdict: str
    exposed: Ranges
    shielded: Ranges
    problem: str | None = None
    inside: Inside | None = None
    snapshots: tuple[SnapshotHit, ...] = ()
    machines: tuple[Machine, ...] = ()

    @property
    def overall(self) -> str:
        """The worst verdict about what the overlay shows now and what its snapshots show."""
        return max((self.verdict, *(snapshot.verdict for snapshot in self.snapshots)), key=WORST_LAST.index)


def hit_to_json(hit: Hit) -> dict[str, Any]:
    """Returns plain values: ranges as [start, length] pairs of bytes."""
    facts: dict[str, Any] = {
        "path": os.fspath(hit.path),
        "verdict": hit.verdict,
        "exposed": pairs(hit.exposed),
        "shielded": pairs(hit.shielded),
        "overall": hit.overall,
        "snapshots": [snapshot.to_json() for snapshot in hit.snapshots],
        "running": [machine.to_json() for machine in hit.machines],
    }
    facts |= hit.inside.to_json() if hit.inside else {}
    return facts | ({"problem": hit.problem} if hit.problem else {})


def judge(overlay: Image, base: Image, changed: Ranges) -> Hit:
    """Returns what changed bytes of `base` do to `overlay`; an overlay that can't be opened is unreadable, with the reason."""
    try:
        with naming_holders(), open_disk(overlay.path, format=overlay.format) as disk:
            return judged(overlay.path, disk, depth_of(disk, base), changed)
    except CowherdError as error:
        return Hit(overlay.path, UNREADABLE, NO_RANGES, NO_RANGES, str(error))


def judged(path: Path, disk: Disk, depth: int, changed: Ranges) -> Hit:
    """Returns what changed bytes of the layer at `depth` of an open disk do to it, and to its internal snapshots."""
    verdict, exposed, shielded = _verdict_on(disk, depth, changed)

    def look(snapshot: Snapshot) -> Verdict:
        return _verdict_on(snapshot_disk(disk.layers, snapshot), depth, changed, is_written=has_machine(snapshot))

    hits = [snapshot_hit(snapshot, changed, partial(look, snapshot)) for snapshot in snapshots_of(disk.layers[0])]
    return Hit(path, verdict, exposed, shielded, snapshots=tuple(hits))


def snapshot_hit(snapshot: Snapshot, changed: Ranges, look: Callable[[], Verdict]) -> SnapshotHit:
    """Returns what `look` finds about a snapshot; one whose tables are broken is unreadable, with the reason."""
    if not len(changed):
        return SnapshotHit(snapshot.id, snapshot.name, INTACT, NO_RANGES, NO_RANGES)
    try:
        return SnapshotHit(snapshot.id, snapshot.name, *look())
    except CowherdError as error:
        return SnapshotHit(snapshot.id, snapshot.name, UNREADABLE, NO_RANGES, NO_RANGES, str(error))


def has_machine(snapshot: Snapshot) -> bool:
    """Whether the snapshot holds the memory of the machine, which describes the old bytes whatever the disk holds."""
    return snapshot.vm_state_size > 0


def _verdict_on(disk: Disk, depth: int, changed: Ranges, *, is_written: bool = False) -> Verdict:
    """Returns what changed bytes of the layer at `depth` do to a disk; `is_written`: it has own data that no layer shows."""
    visible = extents.intersect(changed, extents.ranges([(0, disk.size)]))
    shown, own = seen_through(disk, depth, visible)
    return verdict_by(disk.size, changed, shown, lambda: is_written or own or has_own_data(disk, depth))


def verdict_by(size: int, changed: Ranges, shown: Ranges, has_own: Callable[[], bool]) -> Verdict:
    """Returns the verdict about a disk of `size` bytes that shows the bytes `shown` of what has changed, with the blocks that
    are exposed and those that are shielded."""
    visible = extents.intersect(changed, extents.ranges([(0, size)]))
    exposed = extents.intersect(extents.aligned(shown, BLOCK, size), visible)
    shielded = extents.subtract(visible, exposed)
    if not len(exposed):
        return INTACT, exposed, shielded
    return TORN if has_own() else SYNCHRONISED, exposed, shielded


def depth_of(disk: Disk, base: Image) -> int:
    """Returns how many layers of `disk` lie above `base`."""
    keys = [layer.file.key for layer in disk.layers]
    if base.key not in keys:
        raise BackingFileError(disk.path, base.path.name, "opened by this name, the overlay does not stand on it")
    return keys.index(base.key)
