"""Making the plan of a merge: tables are read, and what the images above hold; the base only if no seal says what it holds."""

from __future__ import annotations

import numpy as np

from cowherd import extents
from cowherd.errors import CowherdError
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
from cowherd.ops.exposure import exposed_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cowherd.extents import Ranges
    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image
    from cowherd.progress import Progress


def plan_merge(
    lineage: Lineage,
    above: Sequence[Image],
    base: Image,
    strategy: str,
    keep: str,
    fork: Path,
    *,
    reflink: bool,
    progress: Progress | None = None,
) -> MergePlan:
    """Plans to merge `above`, the overlay and the images between, into `base`. Takes no locks: the caller holds them.

    `strategy` AUTO takes the cheaper one. `reflink`: whether a copy of the base costs nothing. Reads what `above` holds, and the
    whole base if no seal says what it holds.
    """
    below = lineage.chain(base)
    with stacked([*above, *below]) as whole:
        depth = len(above)
        over, under = Disk(whole.layers[:depth], writable=False), Disk(whole.layers[depth:], writable=False)
        old = content_of(lineage, base, under, progress)
        down, changed, predicted = predict(whole, over, under, old, progress)
        growth = growth_of(under, extents.union(down.copy, down.zero), predicted.size)
    hits = tuple(_hit(lineage, dependent, base, changed) for dependent in lineage.dependents(base))
    children = [child for child in lineage.children(base) if child.key != above[0].key]
    served = tuple(_served(lineage, child, changed) for child in children)
    preserve_cost = cost_of_preserve(down, growth, [one.writes for one in served], predicted)
    fork_cost = cost_of_fork(base, down, growth, predicted, reflink=reflink)
    if strategy == AUTO:
        strategy = FORK if fork_cost.written < preserve_cost.written else PRESERVE
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


def _hit(lineage: Lineage, dependent: Image, base: Image, changed: Ranges) -> Hit:
    chain = lineage.chain(dependent)
    nothing = np.empty((0, 2), np.int64)
    try:
        with stacked(chain) as disk:
            return judged(dependent.path, disk, [image.key for image in chain].index(base.key), changed)
    except CowherdError as error:
        return Hit(dependent.path, UNREADABLE, nothing, nothing, str(error))


def _served(lineage: Lineage, child: Image, changed: Ranges) -> Served:
    with stacked(lineage.chain(child)) as disk:
        exposed = exposed_bytes(disk, 1, changed)
        units = extents.aligned(exposed, disk.layers[0].granularity, disk.size)
        witness = bears_witness(disk, changed, whole=len(units) > 0)
    return Served(Writes(child, units, with_tables(extents.total(units))), witness)
