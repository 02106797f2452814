"""The gate: every change of an image calls it first. It refuses changes after which overlays would read other content.

Each function returns if the change may go on. It refuses a change of a sealed image, with or without overlays (`BaseSealed`), and
of an unsealed one that has dependents (`BaseInUse`); both errors name the dependents. It refuses every change while a merge that
concerns the image runs or was interrupted (`MergePending`), while overlays are known to lie in a place that can't be read
(`OverlaysUnseen`), and while overlays record the image in different formats (`FormatDisputed`). A command that would accept an
overlay's content as right is refused if the overlay was made on another base (`BindingContradicted`).
`cowherd.herd.lineage.survey.survey_around` decides where to look for dependents; `herd` names more directories for it.
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
    from cowherd.storage.holding import Holding


def guard_write(path: PathName, action: str = "write to", *, herd: Sequence[PathName] = ()) -> None:
    """Refuses to change the content of an image that is sealed or has dependents. `action` words the error.

    A path passes if there is no file, or no image. So does an image that holds no data yet, if its dependents hold none either:
    their content does not rely on it yet. So a caller can make a whole chain first and fill it from its root up afterwards.
    """
    _guard(path, action, herd, if_empty=True)


def guard_start(path: PathName, *, herd: Sequence[PathName] = ()) -> None:
    """Refuses to let a machine write to an image that is sealed or has dependents, even empty ones, since it goes on writing."""
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


def guard_rebase(path: PathName, *, keeps_content: bool, herd: Sequence[PathName] = (), held: Holding | None = None) -> Lineage:
    """Refuses to rebase a sealed image, and, unless the rebase keeps the content, an image that has dependents.

    A rebase that keeps the content copies it from the chain; so it is also refused if the formats in the chain or the bindings of
    the image make that content doubtful.

    Returns the herd as it was looked at. What has to be read for it stays `held`.
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
        _refuse_change(lineage, image, "rebase", lineage.dependents(image), path)
    if keeps_content:
        require_uncontradicted(lineage, [image], "rebase it", held=held)
    return lineage


def guard_commit(
    overlay: PathName, base: PathName | None = None, *, herd: Sequence[PathName] = (), held: Holding | None = None
) -> Lineage:
    """Refuses to commit `overlay` into `base` (its own backing file by default) if that changes what other images show.

    The dependents of the overlay keep their content. Images between the two don't count, since the commit uses them up; their
    other dependents do. A sealed overlay is refused too, since the commit empties it.

    Returns the herd as it was looked at. The caller may have the images `held`; what has to be read for it stays so.
    """
    lineage = survey_around(overlay, *([base] if base else []), herd=herd, held=held)
    top = lineage.known(overlay)
    target = lineage.known(base) if base else lineage.parent(top) if top else None
    if top is None or target is None:
        return lineage  # the commit itself reports what is missing
    chain = lineage.chain(top)
    keys = [image.key for image in chain]
    used_up = chain[: keys.index(target.key)] if target.key in keys else [top]
    spared = {image.key for image in (*used_up, *lineage.dependents(top))}
    hit = [one for one in lineage.dependents(target) if one.key not in spared]
    _refuse_change(lineage, target, "commit into", hit, base or target.path)
    require_none(lineage, used_up, "commit")
    for image in used_up:
        if image.seal:
            raise BaseSealed(image.path, "commit", [dependent.path for dependent in lineage.dependents(image)])
    require_uncontradicted(lineage, [top], "commit it", held=held)
    return lineage


def announce_override(path: PathName) -> None:
    """Makes a change of a sealed image show, even after a power cut in the middle of it. Raises `HostFileError`.

    Called before the change when the caller overrides the gate.
    """
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
    _refuse_change(lineage, image, action, dependents, path)


def _refuse_change(lineage: Lineage, image: Image, action: str, dependents: Sequence[Image], named: PathName) -> None:
    """Raises the first reason to refuse a change that `dependents` would see; `named` is the caller's name for the image."""
    paths = [dependent.filename for dependent in dependents]
    require_none(lineage, [image], action)
    if image.seal:
        raise BaseSealed(named, action, paths)
    if paths:
        raise BaseInUse(named, action, paths)
    require_seen(lineage, image, action, named=named)
    require_one_format(lineage, [image], action)


def dependents_of(path: PathName, *, herd: Sequence[PathName] = ()) -> list[Path]:
    """Returns every overlay in the herd whose chain passes through the image at `path`. Raises `HostFileError` if it is gone."""
    lineage = survey_around(path, herd=herd)
    return [image.path for image in lineage.dependents(lineage.find(path))]
