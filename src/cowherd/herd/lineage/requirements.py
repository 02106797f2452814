"""What must be known of a herd before a change that overlays would notice may go on."""

from __future__ import annotations

from cowherd.herd.records.faults import FormatDisputed, HerdNotReadable, OverlaysUnseen
from cowherd.storage.presence import is_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image, Key
    from cowherd.paths import PathName


def left_out_of(lineage: Lineage) -> list[Path]:
    """Returns what could not be read when the herd was looked through, and is still there: any of it may be an overlay."""
    return [path for path in lineage.unreadable if is_there(path)]


def require_readable(lineage: Lineage, base: Image, action: str) -> None:
    """Raises `HerdNotReadable` if files that can't be read may be dependents of `base`, which `action` would leave out."""
    require_seen(lineage, base, action)
    left_out = left_out_of(lineage)
    if left_out:
        raise HerdNotReadable(base.path, action, left_out)


def require_seen(lineage: Lineage, base: Image, action: str, *, named: PathName | None = None) -> None:
    """Raises `OverlaysUnseen` if overlays of `base`, or of what stands on it, are known to lie where nobody can look now.

    `named`: what the caller called the image.
    """
    if lineage.unseen:
        concerned = {base.key, *(image.key for image in lineage.dependents(base))}
        hidden = [(one.place, one.problem) for one in lineage.unseen if not one.base or _key_of(lineage, one.base) in concerned]
        if hidden:
            raise OverlaysUnseen(named or base.path, action, hidden)


def _key_of(lineage: Lineage, path: str) -> Key | None:
    image = lineage.known(path)
    return image.key if image else None


def require_one_format(lineage: Lineage, images: Iterable[Image], action: str) -> None:
    """Raises `FormatDisputed` if overlays record one of `images` in several formats."""
    for image in images:
        recorded = lineage.recorded_formats(image)
        if len(recorded) > 1:
            raise FormatDisputed(image.path, action, sorted(recorded.items()))
