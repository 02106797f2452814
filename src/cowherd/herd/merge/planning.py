"""Making the plan of a merge: it reads tables, and what the images above hold; the base only if no seal says what it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd import extents
from cowherd.errors import CowherdError
from cowherd.herd.impact.judging import Judging, Opener
from cowherd.herd.impact.verdict import UNREADABLE, Hit, judged
from cowherd.herd.merge.holding import stacked
from cowherd.herd.merge.plan import (
    AUTO,
    FORK,
    PRESERVE,
    MergePlan,
    Served,
    cost_of_fork,
    cost_of_preserve,
    growth_of,
    with_tables,
)
from cowherd.herd.merge.prediction import content_of, predict
from cowherd.herd.merge.witness import bears_witness
from cowherd.herd.repair.plan import Writes
from cowherd.image.disk import Disk
from cowherd.ops.exposure import NO_RANGES, exposed_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from cowherd.extents import Ranges
    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.merge.holding import Layers
    from cowherd.progress import Progress


def plan_merge(
    lineage: Lineage,
    layers: Layers,
    above: Sequence[Image],
    base: Image,
    *,
    strategy: str,
    keep: str,
    fork: Path,
    reflink: bool,
    progress: Progress | None = None,
) -> MergePlan:
    """Plans to merge `above`, the overlay and the images between, into `base`; `layers` are read under the caller's locks.

    `strategy` AUTO takes the cheaper one. `reflink`: whether a copy of the base costs nothing. Reads what `above` holds, and the
    whole base if no seal says what it holds.
    """
    below = lineage.chain(base)
    whole, over, under = (layers.disk(images) for images in ([*above, *below], above, below))
    old = content_of(lineage, base, under, progress)
    down, changed, predicted = predict(whole, over, under, old, progress)
    growth = growth_of(under, extents.union(down.copy, down.zero), predicted.size)
    children = [child for child in lineage.children(base) if child.key != above[0].key]
    judging = Judging(lineage, base, changed, _UnderLocks(lineage, layers))
    writes = [_writes(layers, child, under, changed, judging) for child in children]
    hits = tuple(judging.hit(dependent) for dependent in lineage.dependents(base))
    preserve_cost = cost_of_preserve(down, growth, writes, predicted)
    fork_cost = cost_of_fork(base, down, growth, predicted, reflink=reflink)
    if strategy == AUTO:
        strategy = FORK if fork_cost.written < preserve_cost.written else PRESERVE
    served = tuple(_served(layers, one, under, changed) for one in writes) if strategy == PRESERVE else ()
    return MergePlan(
        overlay=above[0],
        base=base,
        above=tuple(above),
        strategy=strategy,
        keep=keep,
        down=down,
        down_growth=growth,
        changed=changed,
        old_size=old.size,
        predicted=predicted,
        hits=hits,
        served=served,
        fork=fork,
        preserve_cost=preserve_cost,
        fork_cost=fork_cost,
        unreadable=lineage.unreadable,
    )


def _writes(layers: Layers, child: Image, under: Disk, changed: Ranges, judging: Judging) -> Writes:
    """Returns what `preserve` writes to a direct overlay of the base, open as `under`; has it judged while it is open."""
    with layers.alone(child) as alone:
        disk = Disk([*alone.layers, *under.layers], writable=False)
        judging.hit(child)
        exposed = judging.shown(child)
        if exposed is None:
            exposed = exposed_bytes(disk, 1, changed)
        units = extents.aligned(exposed, disk.layers[0].granularity, disk.size)
    return Writes(child, units, with_tables(extents.total(units)))


def _served(layers: Layers, writes: Writes, under: Disk, changed: Ranges) -> Served:
    """Returns the same with the digest of what the overlay shows now."""
    with layers.alone(writes.image) as alone:
        disk = Disk([*alone.layers, *under.layers], writable=False)
        return Served(writes, bears_witness(disk, changed, whole=len(writes.ranges) > 0))


class _UnderLocks(Opener):
    """Opens images as the lineage has them: the merge holds the locks that count, and follows no stored names."""

    def __init__(self, lineage: Lineage, layers: Layers):
        self._lineage, self._layers = lineage, layers

    def lies_open(self, base: Image) -> bool:
        return True  # what can't be read as a disk was refused before

    def alone(self, image: Image) -> AbstractContextManager[Disk]:
        return self._layers.alone(image)

    def stands_on(self, disk: Disk, parent: Image) -> bool:
        return True

    def judge(self, image: Image, base: Image, changed: Ranges) -> Hit:
        chain = self._lineage.chain(image)
        try:
            with stacked(chain) as disk:
                return judged(image.path, disk, [one.key for one in chain].index(base.key), changed)
        except CowherdError as error:
            return Hit(image.path, UNREADABLE, NO_RANGES, NO_RANGES, str(error))
