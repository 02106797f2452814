"""Making an overlay stand alone: it gets its own copy of everything that it shows through its base."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.herd.lineage.survey import survey_around
from cowherd.herd.overlays.rebasing import RebasedOverlay, execute, plan_rebase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cowherd.paths import PathName
    from cowherd.progress import Progress


def flatten(
    overlay: PathName,
    *,
    dry_run: bool = False,
    herd: Sequence[PathName] = (),
    progress: Progress | None = None,
) -> RebasedOverlay:
    """Copies into `overlay` what it shows through its base, and removes the base's name from it; its content stays the same.

    The content of everything that stands on it stays the same too. An image without a base is left as it is. `dry_run` only
    plans. Raises as `plan_rebase` and `execute` in `cowherd.herd.overlays.rebasing`.
    """
    lineage = survey_around(overlay, herd=herd)
    image = lineage.find(overlay)
    if image.backing is None:
        return RebasedOverlay(image.path, None, 0, 0, done=not dry_run)
    stand = plan_rebase(lineage, image, None)
    if dry_run:
        base = lineage.parent(image)
        return RebasedOverlay(image.path, base.path if base else None, stand.doubtful_bytes, stand.doubtful_bytes, done=False)
    return execute(lineage, stand, progress)
