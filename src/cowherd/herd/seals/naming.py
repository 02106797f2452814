"""Writing the name of its base into an overlay's header; `lineage.backing_names` decides what that name is.

Every job that only rewrites a name does it here. A merge and a rebase write names together with other changes, under locks that
they hold.
"""

from __future__ import annotations

import os

from cowherd.formats import registry
from cowherd.formats.reference import BackingReference
from cowherd.herd.lineage.backing_names import reference_for
from cowherd.herd.machines.in_use import require_free
from cowherd.herd.records.sidecars import require_liftable
from cowherd.herd.seals.unseal import unprotected
from cowherd.herd.seals.upkeep import keeping_seals
from cowherd.live.holders import naming_holders
from cowherd.storage.durable import make_durable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image
    from cowherd.paths import PathName


def require_nameable(overlays: Iterable[Image]) -> None:
    """Raises `ProtectedByOthers` if the header of one of `overlays` can't be written to, before any is written to."""
    for overlay in overlays:
        require_liftable(overlay.path, "rewrite the base of", seal=overlay.seal)


def write_reference(overlay: Image, reference: BackingReference) -> None:
    """Makes an overlay name its base as `reference` says; lifts its protection meanwhile, and does not touch seals.

    The name is durable on return, even if it was there already: a killed process may have written it. Raises `InvalidRequest`
    where the name does not fit into the header, `ImageInUse`, `HostFileError`.
    """
    if overlay.backing == reference:
        make_durable(overlay.path)
    else:
        _write(overlay, reference, unprotected(overlay))


def write_reference_keeping_seals(lineage: Lineage, overlay: Image, reference: BackingReference) -> None:
    """Does the same for a name that leads to the same content; seals of the overlay and of what stands on it still hold then.

    Raises `DriftFound` for a sealed overlay that had drifted, and as `write_reference`.
    """
    _write(overlay, reference, keeping_seals(lineage, overlay))


def name_base(overlay: Image, base: PathName) -> None:
    """Makes an overlay name its base as the file at `base`; the format that it records stays. Raises as `write_reference`."""
    assert overlay.backing is not None
    write_reference(overlay, reference_for(overlay, base, overlay.backing.format))


def name_base_absolutely(lineage: Lineage, overlay: Image) -> None:
    """Makes an image name its base, if it has one, by its absolute path, which is right from everywhere.

    Raises as `write_reference`.
    """
    base = lineage.parent(overlay)
    if base and overlay.backing:
        write_reference(overlay, BackingReference(os.path.realpath(base.path), overlay.backing.format))


def _write(overlay: Image, reference: BackingReference, lifted: AbstractContextManager[None]) -> None:
    from cowherd.image.open import open_disk

    require_free([overlay])
    with naming_holders(), lifted, open_disk(overlay.path, format=registry.OVERLAY, writable=True, backing=False) as disk:
        disk.set_backing(reference)
