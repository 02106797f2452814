"""The gate: everything that changes an image asks here first, and is refused where overlays would read other content.

Each function returns quietly if the change may go on. A sealed image is refused whatever stands on it (`BaseSealed`), an unsealed
one while others stand on it (`BaseInUse`); both name the dependents. While a merge that concerns the image runs or was
interrupted, every change is refused (`MergePending`). Dependents are looked for in the directory of the image
and the directories right in it, and everywhere under those in `herd`.
"""

from __future__ import annotations

import os

from cowherd.errors import BaseInUse, BaseSealed
from cowherd.herd.lineage import Lineage, survey_around
from cowherd.herd.merging.pending import require_none
from cowherd.herd.sealfile import is_sealed
from cowherd.storage.identity import announce_change
from cowherd.storage.presence import is_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from cowherd.herd.scan import Image

PathName = str | os.PathLike[str]


def guard_write(path: PathName, action: str = "write to", *, herd: Sequence[PathName] = ()) -> None:
    """Refuses to change the content of an image that is sealed or has dependents. What is not there, or no image, passes."""
    if is_there(path):
        lineage = survey_around(path, herd=herd)
        image = lineage.known(path)
        if image:
            _refuse(lineage, image, action, lineage.dependents(image))


def guard_replace(path: PathName, *, herd: Sequence[PathName] = ()) -> None:
    """Refuses to put another image in the place of one that is sealed or has dependents."""
    guard_write(path, "replace", herd=herd)


def guard_resize(path: PathName, *, herd: Sequence[PathName] = ()) -> None:
    """Refuses to resize an image that is sealed or has dependents."""
    guard_write(path, "resize", herd=herd)


def guard_delete(path: PathName, *, herd: Sequence[PathName] = ()) -> None:
    """Refuses to delete an image that is sealed or has dependents."""
    guard_write(path, "delete", herd=herd)


def guard_rebase(path: PathName, *, keeps_content: bool, herd: Sequence[PathName] = ()) -> None:
    """Refuses to give a sealed image another base, and, unless the rebase keeps its content, one that has dependents."""
    lineage = survey_around(path, herd=herd)
    image = lineage.known(path)
    if image:
        _refuse(lineage, image, "rebase", [] if keeps_content and not image.seal else lineage.dependents(image))


def guard_commit(overlay: PathName, base: PathName | None = None, *, herd: Sequence[PathName] = ()) -> None:
    """Refuses to commit `overlay` into `base` (its own backing file by default) where others than the overlay would be hit.

    What stands on the overlay keeps its content. Images between the two are used up by the commit and don't count, but what else
    stands on them does. An overlay that is sealed is refused too, since committing empties it.
    """
    lineage = survey_around(overlay, *([base] if base else []), herd=herd)
    top = lineage.known(overlay)
    target = lineage.known(base) if base else lineage.parent(top) if top else None
    if top is None or target is None:
        return  # the commit itself says what is missing
    chain = lineage.chain(top)
    keys = [image.key for image in chain]
    used_up = chain[: keys.index(target.key)] if target.key in keys else [top]
    spared = {image.key for image in (*used_up, *lineage.dependents(top))}
    _refuse(lineage, target, "commit into", [hit for hit in lineage.dependents(target) if hit.key not in spared])
    require_none(lineage, used_up, "commit")
    for image in used_up:
        if image.seal:
            raise BaseSealed(image.path, "commit", [dependent.path for dependent in lineage.dependents(image)])


def change_anyway(path: PathName) -> None:
    """Is asked instead where a change shall be made whatever it does: that a sealed image changed is to show even after a power
    cut in the middle of it. Raises `HostFileError`."""
    if is_sealed(os.path.realpath(path)):
        announce_change(path)


def _refuse(lineage: Lineage, image: Image, action: str, dependents: Iterable[Image]) -> None:
    paths = [dependent.path for dependent in dependents]
    require_none(lineage, [image], action)
    if image.seal:
        raise BaseSealed(image.path, action, paths)
    if paths:
        raise BaseInUse(image.path, action, paths)


def dependents_of(path: PathName, *, herd: Sequence[PathName] = ()) -> list[Path]:
    """Returns every overlay in the herd whose chain passes through the image at `path`."""
    lineage = survey_around(path, herd=herd)
    return [image.path for image in lineage.dependents(lineage.find(path))]
