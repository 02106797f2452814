"""The name by which an overlay is to know its base, and rewriting it in the overlay's header."""

from __future__ import annotations

import os
from pathlib import Path

from cowherd.herd.clone import move_together, stored_name
from cowherd.herd.condition import record_of
from cowherd.herd.in_use import require_free
from cowherd.herd.unseal import unprotected
from cowherd.image.backing import has_protocol, resolve
from cowherd.live.holders import naming_holders
from cowherd.storage.durable import make_durable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.formats.reference import BackingReference
    from cowherd.herd.scan import Image


def name_for(overlay: Image, base: Path) -> str:
    """Returns how `overlay` is to name `base`: as `clone` would, absolute if the overlay has names in several directories."""
    real = Path(os.path.realpath(base))
    directories = {name.parent for name in overlay.names}
    return stored_name(real, overlay.path) if len(directories) == 1 else os.fspath(real)


def breaks_when_moved(image: Image, base: Image, base_directory: str | None = None) -> bool:
    """Whether a name is relative to the directory somebody works in, or to one that does not move together with the base.

    `base_directory` is the one in which the base's file lies, for who knows it.
    """
    assert image.backing is not None
    name = image.backing.name
    if has_protocol(name):
        return not os.path.isabs(resolve(image.path, image.backing).name)
    real = base_directory or os.path.dirname(os.path.realpath(base.filename))
    return not os.path.isabs(name) and not move_together(os.path.dirname(image.filename), real)


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
    with naming_holders(), lifted, open_disk(overlay.path, format="qcow2", writable=True, backing=False) as disk:
        disk.set_backing(reference)
