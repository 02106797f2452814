"""Moving overlays to another base: what they show stays the same, and only blocks in which the bases differ are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.errors import InvalidRequest
from cowherd.herd.lineage.backing_names import reference_for
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.pending import require_none
from cowherd.herd.lineage.requirements import require_one_format
from cowherd.herd.lineage.survey import survey_again, survey_around
from cowherd.herd.overlays.rebasing import RebasedOverlay, RebasePlan, execute, plan_rebase
from cowherd.herd.seals.evidence import require_uncontradicted
from cowherd.herd.seals.quick_check import require_as_sealed
from cowherd.herd.seals.sealed_pair import sealed_pair
from cowherd.paths import path_names
from cowherd.storage.holding import MOST_HELD, Holding
from cowherd.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cowherd.extents import Ranges
    from cowherd.herd.lineage.scan import Image
    from cowherd.paths import PathName, PathNames
    from cowherd.progress import Progress


def retarget(
    overlays: PathNames,
    onto: PathName,
    *,
    base_format: str | None = None,
    dry_run: bool = False,
    herd: PathNames = (),
    progress: Progress | None = None,
) -> list[RebasedOverlay]:
    """Makes each of `overlays` stand on the image `onto`, one after the other; what they show stays the same.

    Where the old base and the new one are both sealed and unchanged, their seals say which blocks differ, and nothing else is
    read. `base_format` is the format of `onto` where nothing records it. `dry_run` only plans.
    Raises `InvalidRequest` if `onto` stands on one of the overlays, `DriftFound` if `onto` has changed since it was sealed, and
    as `plan_rebase` and `execute` in `cowherd.herd.overlays.rebasing`. The overlays before the one that fails are done then.
    """
    overlays, herd = path_names(overlays), path_names(herd)
    lineage = survey_around(*overlays, onto, herd=herd)
    base = lineage.find(onto, base_format)
    images = [lineage.find(overlay) for overlay in overlays]
    require_none(lineage, [base], "put overlays on")
    require_one_format(lineage, [base], "put overlays on")
    _refuse_loops(lineage, images, base)
    with Holding(MOST_HELD) as held:
        require_uncontradicted(lineage, [base], "put overlays on it", held=held, progress=progress)
        require_as_sealed(lineage, base, "put overlays on it")
        plans = [_plan(lineage, image, base, held) for image in images]
        if not dry_run:
            return [execute(survey_again(lineage) if at else lineage, plan, held, progress) for at, plan in enumerate(plans)]
    return [RebasedOverlay(one.overlay.path, base.path, one.doubtful_bytes, one.doubtful_bytes, done=False) for one in plans]


def _refuse_loops(lineage: Lineage, overlays: Sequence[Image], base: Image) -> None:
    below = {image.key for image in lineage.chain(base)}
    for overlay in overlays:
        if overlay.key in below:
            raise InvalidRequest(f"{printable(base.path)} is, or stands on, {printable(overlay.path)}")


def _plan(lineage: Lineage, overlay: Image, base: Image, held: Holding) -> RebasePlan:
    onto = reference_for(overlay, base.path, base.format)
    return plan_rebase(lineage, overlay, onto, held, _differing(lineage, overlay, base))


def _differing(lineage: Lineage, overlay: Image, base: Image) -> Ranges | None:
    """Returns the guest bytes in which the old base and the new one differ, as their seals say; None if the seals don't say."""
    pair = sealed_pair(lineage, lineage.parent(overlay), base)
    return pair.differs if pair else None
