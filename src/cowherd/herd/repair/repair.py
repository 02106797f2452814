"""Undoing drift: a base gets its sealed content back, block by block.

After an interruption it can be run again and goes on: comparing the base with its seal finds what is left to do.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cowherd import extents
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.pending import require_none
from cowherd.herd.lineage.requirements import require_one_format, require_readable
from cowherd.herd.lineage.survey import survey_around
from cowherd.herd.machines.domains import require_not_saved
from cowherd.herd.machines.in_use import require_free
from cowherd.herd.records.block import BLOCK
from cowherd.herd.records.digest import BlockDigests, digests_of, equal_rows, expand, to_bytes
from cowherd.herd.records.faults import AwaitedInTrash, ContentChanging, NotSealed, RepairFailed
from cowherd.herd.records.sealplace import is_sealed
from cowherd.herd.repair.plan import Repaired, RepairPlan, Writes
from cowherd.herd.seals.donors import locate, write_blocks
from cowherd.herd.seals.drift import Drift, held_drift
from cowherd.herd.seals.held import Held
from cowherd.herd.seals.opaque import refuse_opaque
from cowherd.herd.seals.quick_check import record_of
from cowherd.herd.seals.seal import refresh
from cowherd.herd.seals.unseal import unprotected
from cowherd.image.open import open_disk
from cowherd.image.snapshots import snapshots_of
from cowherd.live.holders import naming_holders
from cowherd.paths import path_names
from cowherd.storage.holding import Holding
from cowherd.storage.identity import FileIdentity
from cowherd.storage.presence import is_there

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cowherd.extents import Ranges
    from cowherd.herd.lineage.scan import Image
    from cowherd.image.disk import Disk
    from cowherd.paths import PathName, PathNames
    from cowherd.progress import Progress


def repair(
    base: PathName,
    *,
    donors: PathNames = (),
    preserve: bool = False,
    dry_run: bool = False,
    ignore_unreadable: bool = False,
    herd: PathNames = (),
    progress: Progress | None = None,
) -> Repaired:
    """Brings a sealed base back to its sealed content, or with `preserve` writes the old blocks into the overlays that need them.

    Without `donors` it looks for them: the base's shadow, and images and raw files of the same size in the herd. Every block is
    compared with the seal before it is written. A base that is gone while its seal is left is made anew (`rebuild`).
    `dry_run` only plans. Files of the herd that can't be read may be overlays; `preserve` goes on without them only with
    `ignore_unreadable`. Raises `HerdNotReadable`, `NotSealed`, `DonorMissing`, `NotEnoughSpace` (nothing is written then),
    `ImageInUse` if a process has open an image that must be written, `RepairFailed`.
    """
    from cowherd.herd.repair import preserve as preserving
    from cowherd.herd.repair import rebuild as rebuilding

    donors, herd = path_names(donors), path_names(herd)

    if not is_there(base) and is_sealed(base) and not preserve:
        return rebuilding.rebuild(base, donors=donors, dry_run=dry_run, herd=herd, progress=progress)
    lineage = survey_around(base, herd=herd)
    image = lineage.find(base)
    if preserve and not dry_run and not ignore_unreadable:
        require_readable(lineage, image, "keep the change of")
    require_none(lineage, [image, *lineage.chain(image)], "repair")
    require_one_format(lineage, [image], "repair")
    if preserve:
        refuse_trashed(lineage, image)
    refuse_opaque(image, "keep overlays from the change of" if preserve else "repair")
    named = [Path(donor) for donor in donors]
    if preserve:
        return preserving.preserve(lineage, image, named, dry_run=dry_run, progress=progress)
    with naming_holders(), Holding() as held:
        # What only plans does not lock the base against readers: machines may start on its overlays while it reads.
        require_free([image], lineage.chain(image), held=None if dry_run else held)
        require_not_saved([image.filename], "write to")
        with held_drift(lineage, image, progress, held) as drift:
            plan = _plan(lineage, drift, named, held)
        if not dry_run:
            plan.check_space()
            require_free([image], lineage.chain(image), held=held)
            _execute(lineage, plan, drift, held, progress)
        return Repaired(plan, done=not dry_run)


def refuse_trashed(lineage: Lineage, base: Image) -> None:
    """Raises `AwaitedInTrash` if a deleted overlay stands on `base`: when restored, it would find only the changed content."""
    waiting = [child.path for child in lineage.children(base) if lineage.trashed_from(child)]
    if waiting:
        raise AwaitedInTrash(base.path, waiting, "keep the change of")


def _plan(lineage: Lineage, drift: Drift, named: Sequence[Path], held: Holding) -> RepairPlan:
    located = locate(drift.base, drift.old, expand(drift.runs), lineage, named, held.open)
    ranges = to_bytes(drift.runs, drift.old.size)
    with open_disk(drift.base.path, format=drift.base.format, opener=held.open) as disk:
        writes = (Writes(drift.base, ranges, unallocated_bytes(disk, ranges)),)
    return RepairPlan(drift.base, False, drift.changed, drift.new.size, drift.old.size, located, writes)


def unallocated_bytes(disk: Disk, ranges: Ranges) -> int:
    """Returns how many bytes of `ranges` can't be overwritten in place in the file of `disk` itself."""
    inside = extents.intersect(ranges, extents.ranges([(0, disk.size)]))
    in_place = 0
    if len(inside) and not snapshots_of(disk.layers[0]):  # what snapshots hold too is not overwritten in place
        start, end = int(inside[0, 0]), int(inside[-1, 1])
        for batch in disk.extents(start, end - start, depth=1):
            data = extents.restrict(extents.of_kind(batch, extents.DATA), inside)
            in_place += int(data["length"].sum())
    return extents.total(ranges) - in_place


def _execute(lineage: Lineage, plan: RepairPlan, drift: Drift, held: Holding, progress: Progress | None) -> None:
    if record_of(plan.base) is None:
        raise NotSealed(plan.base.path)
    if len(plan.changed) or plan.size != plan.sealed_size:
        with unprotected(plan.base):
            require_unchanged(plan.base, drift.held.identity)
            with open_disk(plan.base.path, format=plan.base.format, writable=True, opener=held.open) as disk:
                if disk.size != plan.sealed_size:
                    disk.resize(plan.sealed_size)
                _write(disk, plan, drift.old, progress)
    else:
        require_unchanged(plan.base, drift.held.identity)
    refresh(lineage, plan.base, Held(drift.old, FileIdentity.of(plan.base.path)))


def require_unchanged(image: Image, before: FileIdentity) -> None:
    """Raises `ContentChanging` unless the file of `image` is as it was when it was read, apart from its mode."""
    now = FileIdentity.of(image.path)
    if (now.inode, now.size, now.mtime_ns) != (before.inode, before.size, before.mtime_ns):
        raise ContentChanging(image.path)


def _write(disk: Disk, plan: RepairPlan, sealed: BlockDigests, progress: Progress | None) -> None:
    blocks = expand(np.column_stack((plan.writes[0].ranges[:, 0] // BLOCK, -(-plan.writes[0].ranges[:, 1] // BLOCK))))
    write_blocks(disk, plan.located, blocks, progress)
    runs = np.column_stack((blocks, blocks + 1))
    if not equal_rows(digests_of(disk, runs), sealed.lookup(blocks)).all():
        raise RepairFailed(plan.base.path)
