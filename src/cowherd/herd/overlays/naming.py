"""The name by which an overlay is to know its base, and rewriting it in the overlay's header."""

from __future__ import annotations

from cowherd.formats import registry
from cowherd.herd.machines.in_use import require_free
from cowherd.herd.seals.quick_check import record_of
from cowherd.herd.seals.unseal import unprotected
from cowherd.live.holders import naming_holders
from cowherd.storage.durable import make_durable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.formats.reference import BackingReference
    from cowherd.herd.lineage.scan import Image


def write_reference(overlay: Image, reference: BackingReference) -> None:
    """Makes an overlay name its base as `reference` says, through its protection, which is put back; seals are not touched.

    Durable on return, also where it names it so already: by what a killed process wrote. Raises `InvalidRequest` where the name
    does not fit into the header, `ImageInUse`, `HostFileError`.
    """
    from cowherd.image.open import open_disk

    if overlay.backing == reference:
        make_durable(overlay.path)
        return
    require_free([overlay])
    lifted = unprotected(overlay, record_of(overlay))
    with naming_holders(), lifted, open_disk(overlay.path, format=registry.OVERLAY, writable=True, backing=False) as disk:
        disk.set_backing(reference)
