"""Keeping a drift from the overlays: the base stays as it is now, and every overlay of it gets the old blocks as its own.

Only direct overlays need them; what stands on those sees the old content through them. The order makes an interruption
harmless: each cluster is written whole, so that it is either still seen in the base or already holds all of its old content; an
overlay gets its new binding after its blocks (a header is written once everything before it is durable); and the seal changes
only when all overlays are served. Until then a second run finds what is left to do.

Nothing can be written into an overlay's internal snapshots. Where one of them shows the change, nothing is done.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cowherd import extents
from cowherd.errors import SnapshotsWouldChange
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.survey import survey_again
from cowherd.herd.machines.in_use import require_free
from cowherd.herd.records.binding import Binding, set_binding_if_it_fits
from cowherd.herd.records.block import BLOCK
from cowherd.herd.records.digest import expand, to_blocks
from cowherd.herd.records.faults import BindingContradicted, ContentChanging, DriftFound, NotSealed
from cowherd.herd.records.sidecars import require_liftable
from cowherd.herd.records.status import Status
from cowherd.herd.repair.plan import Repaired, RepairPlan, Writes
from cowherd.herd.seals.donors import BlockReader, Located, locate
from cowherd.herd.seals.drift import Drift, held_drift
from cowherd.herd.seals.held import held_content
from cowherd.herd.seals.quick_check import condition, of_file, record_of
from cowherd.herd.seals.seal import refresh, reseal
from cowherd.herd.seals.unseal import unprotected
from cowherd.image.open import open_disk
from cowherd.live.holders import naming_holders
from cowherd.ops.exposure import exposed_bytes
from cowherd.ops.snapshots import exposed_snapshots
from cowherd.storage.holding import MOST_HELD, Holding
from cowherd.storage.writeback import WriteBehind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from cowherd.extents import Ranges
    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.records.sealrecord import SealRecord
    from cowherd.image.disk import Disk
    from cowherd.progress import Progress

_CHUNK = 1 << 20
_REMEDY = "or undo the change: 'cowherd repair' without --preserve"


class _Means(NamedTuple):
    """What overlays are served with: the files that are `held`, the `reader` of sealed blocks, and whom to tell how far it is."""

    held: Holding
    reader: BlockReader
    progress: Progress | None


def preserve(
    lineage: Lineage, base: Image, named: Sequence[Path], *, dry_run: bool = False, progress: Progress | None = None
) -> Repaired:
    """Writes the sealed blocks that `base` has lost into every overlay that would see the new ones; re-seals and re-binds.

    Raises as `cowherd.herd.repair.repair.repair`, before anything is written where that is possible.
    """
    with naming_holders():
        with Holding(MOST_HELD) as held:
            # What only plans does not hold them: machines may start while it reads.
            require_free(lineage.children(base), lineage.chain(base), held=None if dry_run else held)
            done = _preserve(lineage, base, named, held, dry_run=dry_run, progress=progress)
        if done.done and any(dependent.seal for dependent in lineage.dependents(base)):
            left = refresh_dependents(survey_again(lineage), base, progress)  # overlays were written to
            return replace(done, left=[*done.left, *left])
        return done


def _preserve(
    lineage: Lineage, base: Image, named: Sequence[Path], held: Holding, *, dry_run: bool, progress: Progress | None
) -> Repaired:
    """Does what `preserve` does, but for the seals of dependents. The base, its chain and its overlays are `held`."""
    record = record_of(base)
    if record is None:
        raise NotSealed(base.path)
    with held_drift(lineage, base, progress, held) as drift:
        _require_bound_to(lineage, base, record.content_digest, drift.new.content_digest)
        plan = _plan(lineage, drift, named, held)
    if dry_run:
        return Repaired(plan, done=False)
    plan.check_space()
    binding = _next_binding(record, drift)
    require_free([write.image for write in plan.writes], lineage.chain(base), held=held)
    _require_writable(plan)
    with plan.located.opened(held.open) as reader:
        left = [problem for write in plan.writes for problem in _serve(write, plan, binding, _Means(held, reader, progress))]
    if len(plan.changed) or plan.size != plan.sealed_size:
        reseal(lineage, base, drift.held)
    return Repaired(plan, done=True, left=left)


def _require_bound_to(lineage: Lineage, base: Image, *contents: bytes) -> None:
    """Raises `BindingContradicted` for an overlay made on neither what the base held nor, once interrupted, what it holds now."""
    for child in lineage.children(base):
        if child.binding and child.binding.content_digest not in contents:
            raise BindingContradicted(child.path, base.path, "keep a change of that base from it")


def _plan(lineage: Lineage, drift: Drift, named: Sequence[Path], held: Holding) -> RepairPlan:
    writes, needed = [], np.empty((0, 2), np.int64)
    snapshots: list[tuple[Path, str]] = []
    for child in lineage.children(drift.base):
        with open_disk(child.path, format=child.format, opener=held.open) as disk:
            exposed, whole_units = _exposed(disk, drift.changed)
            snapshots += [(child.path, one.name) for one in exposed_snapshots(disk.layers, 1, drift.changed)]
        writes.append(Writes(child, whole_units, extents.total(whole_units)))
        needed = extents.union(needed, to_blocks(exposed))
    if snapshots:
        raise SnapshotsWouldChange(drift.base.path, "keep the change of", snapshots, _REMEDY)
    located = locate(drift.base, drift.old, expand(needed), lineage, named, held.open)
    return RepairPlan(drift.base, True, drift.changed, drift.new.size, drift.old.size, located, tuple(writes))


def _exposed(disk: Disk, changed: Ranges) -> tuple[Ranges, Ranges]:
    """Returns the changed bytes that an overlay sees in its base, and the same widened to the units in which it allocates."""
    exposed = exposed_bytes(disk, 1, changed)
    return exposed, extents.aligned(exposed, disk.layers[0].granularity, disk.size)


def _next_binding(record: SealRecord, drift: Drift) -> Binding:
    content = drift.new.content_digest
    return Binding(content, record.seal_id, record.generation_with(content))


def _require_writable(plan: RepairPlan) -> None:
    """Raises `ProtectedByOthers` or `DriftFound` if an overlay can't be written to, before any overlay is written to."""
    for write in plan.writes:
        require_liftable(write.image.path, "write to", seal=write.image.seal)
        record = record_of(write.image)
        if record:
            now = of_file(write.image.path, record.identity)
            if not now.status.holds:
                raise DriftFound(write.image.path, now.status, "write to it")


def _serve(write: Writes, plan: RepairPlan, binding: Binding, means: _Means) -> list[tuple[Path, str]]:
    """Gives one overlay the old blocks and its new binding; returns the reason if it could not be bound."""
    overlay = write.image
    with unprotected(overlay), open_disk(overlay.path, format=overlay.format, writable=True, opener=means.held.open) as disk:
        _, ranges = _exposed(disk, plan.changed)
        if len(extents.subtract(ranges, write.ranges)):
            raise ContentChanging(overlay.path)
        _write(disk, ranges, plan.located, means)
        return set_binding_if_it_fits(disk, binding) if overlay.binding != binding else []


def _write(disk: Disk, ranges: Ranges, located: Located, means: _Means) -> None:
    step = max(_CHUNK, disk.layers[0].granularity)
    buffer = memoryview(bytearray(step))
    behind = WriteBehind(disk.layers[0].data.host)
    done, total = 0, extents.total(ranges)
    for start, end in whole_steps(ranges, step):
        part = buffer[: end - start]
        disk.readinto(start, part)
        _put_old_blocks(part, start, located, means.reader)
        if np.frombuffer(part, np.uint8).any():
            disk.write(start, part)
            behind.wrote(len(part))
        else:
            disk.zero(start, len(part))
        done += len(part)
        if means.progress:
            means.progress(done, total)


def whole_steps(ranges: Ranges, step: int) -> Iterator[tuple[int, int]]:
    """Cuts ranges at multiples of `step`, so that no unit of allocation is written in two parts."""
    for start, end in ranges.tolist():
        while start < end:
            stop = min(end, (start // step + 1) * step)
            yield start, stop
            start = stop


def _put_old_blocks(part: memoryview, start: int, located: Located, reader: BlockReader) -> None:
    """Replaces the changed blocks in `part`, whose first byte is guest byte `start`, by the sealed ones."""
    old = memoryview(bytearray(BLOCK))
    first = int(np.searchsorted(located.blocks, start // BLOCK))
    last = int(np.searchsorted(located.blocks, -(-(start + len(part)) // BLOCK)))
    for block in located.blocks[first:last].tolist():
        reader.read(block, old)
        low, high = max(start, block * BLOCK), min(start + len(part), (block + 1) * BLOCK)
        part[low - start : high - start] = old[low - block * BLOCK : high - block * BLOCK]


def refresh_dependents(lineage: Lineage, base: Image, progress: Progress | None) -> list[tuple[Path, str]]:
    """Brings the seals of dependents up to date, nearest first; returns those whose content is not as sealed."""
    left = []
    for overlay in sorted(lineage.dependents(base), key=lambda dependent: len(lineage.chain(dependent))):
        record = record_of(overlay)
        if record is None or condition(lineage, overlay).status is Status.OK:
            continue
        with held_content(lineage, overlay, progress) as held:
            if held.digests.content_digest == record.content_digest:
                refresh(lineage, overlay, held)
            else:
                left.append((overlay.path, "its content is not as its seal says; it had drifted before"))
    return left
