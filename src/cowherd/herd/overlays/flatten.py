"""Making an overlay stand alone: it gets its own copy of everything that it shows through its base."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.herd.lineage.survey import survey_around
from cowherd.herd.overlays.rebasing import RebasedOverlay, execute, plan_rebase
from cowherd.paths import path_names
from cowherd.storage.holding import Holding

if TYPE_CHECKING:
    from cowherd.paths import PathName, PathNames
    from cowherd.progress import Progress


def flatten(
    overlay: PathName,
    *,
    dry_run: bool = False,
    herd: PathNames = (),
    progress: Progress | None = None,
) -> RebasedOverlay:
    """Copies into `overlay` what it shows through its base, and removes the base's name from it; its content stays the same.

    The content of everything that stands on it stays the same too. An image without a base is left as it is. `dry_run` only
    plans. Raises as `plan_rebase` and `execute` in `cowherd.herd.overlays.rebasing`.
    """
    herd = path_names(herd)
    lineage = survey_around(overlay, herd=herd)
    image = lineage.find(overlay)
    if image.backing is None:
        return RebasedOverlay(image.path, None, 0, 0, done=not dry_run)
    with Holding() as held:
        plan = plan_rebase(lineage, image, None, held)
        if not dry_run:
            return execute(lineage, plan, held, progress)
    base = lineage.parent(image)
    return RebasedOverlay(image.path, base.path if base else None, plan.doubtful_bytes, plan.doubtful_bytes, done=False)
