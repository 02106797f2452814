"""Others that use the files of a merge: processes that have them open, and libvirt domains that name them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from cowherd.errors import ImageInUse, InvalidRequest
from cowherd.herd.lineage.lineage import Lineage
from cowherd.herd.lineage.survey import survey_again
from cowherd.herd.machines.domains import redefine, require_not_saved, require_unnamed
from cowherd.herd.machines.in_use import require_free
from cowherd.herd.merge.offline import delete_image
from cowherd.herd.merge.plan import FORK, NOTHING, PRESERVE, MergePlan
from cowherd.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.machines.domains import Naming
    from cowherd.storage.holding import Holding

KEEP_FOR_DOMAIN = "--keep empty merges it and leaves it to the domain; --update-domains has the domain use what it is merged into"


def require_free_for(lineage: Lineage, plan: MergePlan, held: Holding) -> None:
    """Raises `ImageInUse` if a process that takes no locks has open a file that the merge writes, removes or copies.

    The merge has their locks, `held`.
    """
    changed = [plan.overlay]
    if plan.keep == NOTHING:
        changed += lineage.children(plan.overlay)
    if plan.strategy == PRESERVE:
        changed += [plan.base, *lineage.children(plan.base)]
    require_free(changed, lineage.chain(plan.overlay), locks=False, held=held)
    if plan.strategy == PRESERVE:
        require_not_saved([plan.base.filename], "merge into")


@contextlib.contextmanager
def suggesting_fork(lineage: Lineage, top: Image, strategy: str) -> Iterator[None]:
    """Adds what would work to an `ImageInUse` from the block, if only the base or other overlays of it are in use."""
    try:
        yield
    except ImageInUse as error:
        own = {image.path for image in (top, *lineage.children(top))}
        if strategy != FORK and error.path not in own:
            error.hint = error.hint or (
                f"'cowherd merge {shown(top.path)} --strategy fork' leaves the base and its other overlays alone"
            )
        raise


def required_for_domains(top: Image, keep: str, *, update_domains: bool) -> Sequence[Naming]:
    """Returns the domains that name an overlay which the merge removes. Raises `DiskOfDomain` for any unless `update_domains`."""
    return require_unnamed([top], "merge away", KEEP_FOR_DOMAIN, redefining=update_domains) if keep == NOTHING else ()


def remove_from_domains(lineage: Lineage, plan: MergePlan, namings: Sequence[Naming]) -> list[tuple[Path, str]]:
    """Makes domains use what their disk, empty by now, was merged into, and removes the disk unless others stand on it."""
    now = survey_again(lineage)
    overlay = now.find(plan.overlay.path)
    if now.has_children(overlay):
        return [(overlay.path, "it was emptied, and is still there: overlays stand on it")]
    base = now.parent(overlay)
    if base is None:
        raise InvalidRequest(f"{shown(overlay.path)} has lost its base since it was merged")
    require_free([overlay])
    redefine(namings, base.path, image_format=base.format, changes_chain=True)
    delete_image(overlay)
    return []
