"""The gate: everything that changes an image asks here first, and is refused where overlays would read other content.

Each function returns quietly if the change may go on. A sealed image is refused whatever stands on it (`BaseSealed`), an unsealed
one while others stand on it (`BaseInUse`); both name the dependents. While a merge that concerns the image runs or was
interrupted, every change is refused (`MergePending`), and so it is while overlays are known to lie where nobody can look
(`OverlaysUnseen`), or record the image in several formats (`FormatDisputed`). What would make an overlay's content count as right
is refused while that overlay was made on another base (`BindingContradicted`). Where dependents are looked for is
`cowherd.herd.lineage.survey.survey_around`'s to say.
"""

from __future__ import annotations

import os

from cowherd.errors import BaseInUse, BaseSealed, InvalidRequest
from cowherd.herd.lineage.emptiness import holds_nothing
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.pending import require_none
from cowherd.herd.lineage.requirements import require_one_format, require_seen
from cowherd.herd.lineage.survey import survey_around
from cowherd.herd.records.ownership import is_proven_seal
from cowherd.herd.records.sealplace import is_sealed
from cowherd.herd.seals.evidence import require_uncontradicted
from cowherd.storage.identity import announce_change
from cowherd.storage.presence import is_there
from cowherd.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cowherd.herd.lineage.scan import Image
    from cowherd.paths import PathName


def guard_write(path: PathName, action: str = "write to", *, herd: Sequence[PathName] = ()) -> None:
    """Refuses to change the content of an image that is sealed or has dependents. What is not there, or no image, passes.

    So does an image that holds nothing yet, if its dependents hold nothing either: nobody has read anything. That is how a whole
    chain is made first and filled from its root up afterwards.
    """
    _guard(path, action, herd, if_empty=True)


def guard_start(path: PathName, *, herd: Sequence[PathName] = ()) -> None:
    """Refuses to let a machine write to an image that is sealed or has dependents, be they empty or not: it goes on writing."""
    _guard(path, "write to", herd)


def guard_replace(path: PathName, *, herd: Sequence[PathName] = ()) -> None:
    """Refuses to put another image in the place of one that is sealed or has dependents."""
    _guard(path, "replace", herd)


def guard_resize(path: PathName, *, herd: Sequence[PathName] = ()) -> None:
    """Refuses to resize an image that is sealed or has dependents."""
    _guard(path, "resize", herd)


def guard_delete(path: PathName, *, herd: Sequence[PathName] = ()) -> None:
    """Refuses to delete an image that is sealed or has dependents."""
    _guard(path, "delete", herd)


def guard_rebase(path: PathName, *, keeps_content: bool, herd: Sequence[PathName] = ()) -> Lineage:
    """Refuses to give a sealed image another base, and, unless the rebase keeps its content, one that has dependents.

    Returns the herd as it was looked at.
    """
    lineage = survey_around(path, herd=herd)
    image = lineage.known(path)
    if image is None:
        return lineage
    if keeps_content:
        require_one_format(lineage, lineage.chain(image), "copy from")
    if keeps_content and not image.seal:
        require_none(lineage, [image], "rebase")
    else:
        _refuse(lineage, image, "rebase", lineage.dependents(image), path)
    if keeps_content:
        require_uncontradicted(lineage, [image], "rebase it")
    return lineage


def guard_commit(overlay: PathName, base: PathName | None = None, *, herd: Sequence[PathName] = ()) -> Lineage:
    """Refuses to commit `overlay` into `base` (its own backing file by default) where others than the overlay would be hit.

    What stands on the overlay keeps its content. Images between the two are used up by the commit and don't count, but what else
    stands on them does. An overlay that is sealed is refused too, since committing empties it.

    Returns the herd as it was looked at.
    """
    lineage = survey_around(overlay, *([base] if base else []), herd=herd)
    top = lineage.known(overlay)
    target = lineage.known(base) if base else lineage.parent(top) if top else None
    if top is None or target is None:
        return lineage  # the commit itself says what is missing
    chain = lineage.chain(top)
    keys = [image.key for image in chain]
    used_up = chain[: keys.index(target.key)] if target.key in keys else [top]
    spared = {image.key for image in (*used_up, *lineage.dependents(top))}
    hit = [one for one in lineage.dependents(target) if one.key not in spared]
    _refuse(lineage, target, "commit into", hit, base or target.path)
    require_none(lineage, used_up, "commit")
    for image in used_up:
        if image.seal:
            raise BaseSealed(image.path, "commit", [dependent.path for dependent in lineage.dependents(image)])
    require_uncontradicted(lineage, [top], "commit it")
    return lineage


def change_anyway(path: PathName) -> None:
    """Called when the caller overrides the gate: that a sealed image changed is to show even after a power cut in the middle of
    it. Raises `HostFileError`."""
    if is_sealed(os.path.realpath(path)):
        announce_change(path)


def _guard(path: PathName, action: str, herd: Sequence[PathName], *, if_empty: bool = False) -> None:
    if not is_there(path):
        return
    if is_proven_seal(path):
        raise InvalidRequest(f"{printable(path)} is a seal: refusing to {action} it; 'cowherd unseal' gives one up")
    lineage = survey_around(path, herd=herd)
    image = lineage.known(path)
    if image is None:
        return
    dependents = lineage.dependents(image)
    if if_empty and dependents and image.seal is None and all(map(holds_nothing, (image, *dependents))):
        dependents = []
    _refuse(lineage, image, action, dependents, path)


def _refuse(lineage: Lineage, image: Image, action: str, dependents: Sequence[Image], named: PathName) -> None:
    """Raises what stands against a change that `dependents` would see; `named` is how whoever asks called the image."""
    paths = [dependent.filename for dependent in dependents]
    require_none(lineage, [image], action)
    if image.seal:
        raise BaseSealed(named, action, paths)
    if paths:
        raise BaseInUse(named, action, paths)
    require_seen(lineage, image, action, named=named)
    require_one_format(lineage, [image], action)


def dependents_of(path: PathName, *, herd: Sequence[PathName] = ()) -> list[Path]:
    """Returns every overlay in the herd whose chain passes through the image at `path`."""
    lineage = survey_around(path, herd=herd)
    return [image.path for image in lineage.dependents(lineage.find(path))]
