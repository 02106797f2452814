"""Keeping a drift from the overlays: a base stays as it has become, and every overlay of it gets the old blocks as its own.

Only direct overlays need them; what stands on those sees the old content through them. The order makes an interruption
harmless: each cluster is written whole, so that it is either still seen in the base or already holds all of its old content; an
overlay gets its new binding after its blocks; and only when all overlays are served does the seal change. Until then a
second run finds what is left to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cowherd import extents
from cowherd.errors import CowherdError
from cowherd.extents import Ranges
from cowherd.herd.binding import Binding, set_binding
from cowherd.herd.condition import condition, of_file, record_of
from cowherd.herd.digest import BLOCK, expand, to_blocks
from cowherd.herd.donors import BlockReader, Located, locate
from cowherd.herd.drift import Drift, held_drift
from cowherd.herd.faults import DriftFound, NotSealed
from cowherd.herd.impact import exposed_bytes
from cowherd.herd.lineage import Lineage, survey
from cowherd.herd.plan import Repaired, RepairPlan, Writes
from cowherd.herd.repair import require_unchanged
from cowherd.herd.scan import Image
from cowherd.herd.seal import held_content, refresh, reseal, unprotected
from cowherd.herd.sealfile import SealRecord
from cowherd.herd.status import Status
from cowherd.image.open import open_disk
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import WRITE

if TYPE_CHECKING:
    from cowherd.herd.digest import Progress
    from cowherd.image.disk import Disk

_CHUNK = 1 << 20


def preserve(
    lineage: Lineage, base: Image, named: Sequence[Path], *, dry_run: bool = False, progress: Progress | None = None
) -> Repaired:
    """Writes the sealed blocks that `base` has lost into every overlay that would see the new ones; re-seals and re-binds.

    Raises as `cowherd.herd.repair.repair`, before anything is written where that is possible.
    """
    record = record_of(base)
    if record is None:
        raise NotSealed(base.path)
    with held_drift(lineage, base, progress) as drift:
        plan = _plan(lineage, drift, named)
    if dry_run:
        return Repaired(plan, done=False)
    plan.check_space()
    binding = _next_binding(record, drift)
    _require_free(lineage, plan)
    left = _serve_overlays(lineage, plan, drift, binding, progress)
    with held_drift(lineage, base, None) as again:
        require_unchanged(base, drift.held.identity)
        if len(again.runs) or again.old.size != again.new.size:
            reseal(lineage, base, again.held)
    left += _refresh_dependents(survey(lineage.directories), base, progress)
    return Repaired(plan, done=True, left=left)
