"""Making an overlay stand alone: it gets its own copy of everything that it shows through its base."""

from __future__ import annotations

from cowherd.herd.lineage import survey_around
from cowherd.herd.standing import Settled, execute, plan_stand

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from cowherd.ops.copying import Progress


def flatten(
    overlay: str | os.PathLike[str],
    *,
    dry_run: bool = False,
    herd: Sequence[str | os.PathLike[str]] = (),
    progress: Progress | None = None,
) -> Settled:
    """Copies into `overlay` what it shows through its base, which it then no longer names; what it shows stays the same.

    So it does for everything that stands on it. An image without a base is left as it is. `dry_run` only plans.
    Raises as `plan_stand` and `execute` in `cowherd.herd.standing`.
    """
    lineage = survey_around(overlay, herd=herd)
    image = lineage.find(overlay)
    if image.backing is None:
        return Settled(image.path, None, 0, 0, done=not dry_run)
    stand = plan_stand(lineage, image, None)
    if dry_run:
        base = lineage.parent(image)
        return Settled(image.path, base.path if base else None, stand.doubtful_bytes, stand.doubtful_bytes, done=False)
    return execute(lineage, stand, progress)
