"""Giving overlays another base, or none, with what they show kept: one plan and one execution for `flatten` and `retarget`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cowherd.errors import BackingFileError, UnsupportedFeature
from cowherd.formats import registry
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.pending import require_none
from cowherd.herd.lineage.requirements import require_one_format
from cowherd.herd.lineage.survey import survey_own_chain
from cowherd.herd.machines.in_use import chain_below, require_free
from cowherd.herd.records.binding import EXTENSION_TYPE
from cowherd.herd.seals.bind import rebind_found
from cowherd.herd.seals.evidence import require_uncontradicted
from cowherd.herd.seals.upkeep import keeping_seals
from cowherd.image.backing import resolve
from cowherd.live.holders import naming_holders
from cowherd.storage.space import check_space

if TYPE_CHECKING:
    from pathlib import Path

    from cowherd.extents import Ranges
    from cowherd.formats.reference import BackingReference
    from cowherd.herd.lineage.scan import Image
    from cowherd.progress import Progress
    from cowherd.storage.holding import Holding


@dataclass(frozen=True, eq=False)
class RebasePlan:
    """What an overlay is to stand on: `base` as the overlay will name it, None for no base.

    `differs`: the guest bytes in which the old base and the new one may differ, None for all. `doubtful_bytes`: how many bytes
    have to be read from both bases, and may have to be written to the overlay.
    """

    overlay: Image
    base: BackingReference | None
    differs: Ranges | None
    doubtful_bytes: int


@dataclass(frozen=True)
class RebasedOverlay:
    """What was done, or, if `done` is False, what would be done: bytes read from both bases, and bytes written to the overlay.

    `base` is the file that the overlay stands on now, None for nothing. `written_bytes` is an upper bound unless `done`.
    """

    overlay: Path
    base: Path | None
    read_bytes: int
    written_bytes: int
    done: bool


def plan_rebase(
    lineage: Lineage, overlay: Image, base: BackingReference | None, held: Holding, differs: Ranges | None = None
) -> RebasePlan:
    """Plans to make `overlay` stand on `base`. Reads tables only, unless the overlay has internal snapshots.

    From then on the overlay, what it reads and its new base are `held`, so that the plan stays right until it is carried out.
    Raises `BindingContradicted` where it, or what it stands on, was made on other content, `SnapshotsWouldChange` where one of
    its internal snapshots would show other content, `UnsupportedFeature` for an overlay that is not qcow2, and what opening the
    overlay's chain raises.
    """
    from cowherd.ops.rebase.keeping_content import doubtful_bytes

    broken = lineage.broken(overlay)
    if broken:
        raise BackingFileError(overlay.path, os.fspath(broken.path or broken.name), broken.problem or "it is not there")
    require_none(lineage, [overlay], "give another base to")
    require_one_format(lineage, lineage.chain(overlay), "copy from")
    require_uncontradicted(lineage, [overlay], "give it another base, or none", held=held)
    if not registry.named(overlay.format).backing:
        raise UnsupportedFeature(overlay.path, f"another base for an image of format {overlay.format}")
    name, recorded = (base.name, base.format) if base else (None, None)
    _require_free(lineage, overlay, base, held)
    with naming_holders():
        bytes_ = doubtful_bytes(
            overlay.path, name, format=overlay.format, backing_format=recorded, differs=differs, opener=held.open
        )
    return RebasePlan(overlay, base, differs, bytes_)


def _require_free(lineage: Lineage, overlay: Image, base: BackingReference | None, held: Holding) -> None:
    """Raises `ImageInUse` if somebody has the overlay open, or writes to what it reads or to its new base."""
    onto = [name := resolve(overlay.filename, base).name, *chain_below(name)] if base else []
    require_free([overlay], [*lineage.chain(overlay)[1:], *onto], held=held)


def execute(lineage: Lineage, plan: RebasePlan, held: Holding, progress: Progress | None = None) -> RebasedOverlay:
    """Carries out a plan and binds the overlay to its new base's seal. After an interruption, plan and execute again.

    `held`: what `plan_rebase` holds.
    Raises `NotEnoughSpace` before anything is written, `ImageInUse`, `DriftFound` for a sealed overlay that had drifted.
    """
    from cowherd.ops.rebase.rebase import rebase

    overlay = plan.overlay
    check_space([(overlay.path, plan.doubtful_bytes)])
    _require_free(lineage, overlay, plan.base, held)
    name, recorded = (plan.base.name, plan.base.format) if plan.base else (None, None)
    with naming_holders(), keeping_seals(lineage, overlay):
        done = rebase(
            overlay.path,
            name,
            format=overlay.format,
            backing_format=recorded,
            differs=plan.differs,
            without=EXTENSION_TYPE,  # after a kill the overlay is bound to nothing, not to a base that it has no longer
            opener=held.open,
            progress=progress,
        )
        after = survey_own_chain(overlay.path, overlay.format)
        now = after.find(overlay.path)
        rebind_found(after, now, held.open)
        base = after.parent(now)
    held.end_writing()  # the kernel tells then again who else has the overlay open: others of the job may stand on it
    return RebasedOverlay(overlay.path, base.path if base else None, done.bytes_compared, done.bytes_written, done=True)
