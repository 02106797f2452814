"""Internal snapshots of the images that a merge concerns: they have tables of their own, over the base of their image."""

from __future__ import annotations

from cowherd.errors import InvalidRequest, SnapshotsWouldChange
from cowherd.herd.merge.holding import stacked
from cowherd.image.snapshots import snapshots_of
from cowherd.text import printable, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.merge.plan import MergePlan

_FORK = "or use --strategy fork, which changes nothing below other overlays"


def require_no_snapshots(plan: MergePlan, written: Sequence[Image]) -> None:
    """Raises `SnapshotsWouldChange` for the overlay and for those `written` to, `InvalidRequest` for a base with its own.

    Snapshots of overlays may show the base where these themselves do not, and nothing can be written into them.
    """
    below = [(image.path, name) for image in written for name in _names(image)]
    if below:
        raise SnapshotsWouldChange(plan.base.path, "merge into", below, _FORK)
    own = [(plan.overlay.path, name) for name in _names(plan.overlay)]
    if own:
        raise SnapshotsWouldChange(plan.overlay.path, "merge", own, "and merge then")
    names = _names(plan.base)
    if names:
        raise InvalidRequest(
            f"{shown(plan.base.path)} has internal snapshots of its own ({len(names)}, '{printable(names[0])}' among them): "
            f"such an image is not merged into. Delete them ('qemu-img snapshot -d'), and merge then"
        )


def largest_size(image: Image) -> int:
    """Returns the size of the largest disk that an image may show: as it is now, or with one of its snapshots applied."""
    with stacked([image]) as disk:
        return max([disk.size, *(snapshot.disk_size for snapshot in snapshots_of(disk.layers[0]))])


def _names(image: Image) -> list[str]:
    with stacked([image]) as disk:
        return [snapshot.label for snapshot in snapshots_of(disk.layers[0])]
