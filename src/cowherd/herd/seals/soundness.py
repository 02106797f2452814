"""Checks an image and its chain for damage before a seal, or a first overlay, declares their content to be the right one."""

from __future__ import annotations

from cowherd.herd.seals.opaque import is_opaque
from cowherd.live.holders import naming_holders
from cowherd.ops.inspect.soundness import NotSound, require_sound
from cowherd.storage.opening import open_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image
    from cowherd.storage.blocks import Opener

__all__ = ["NotSound", "require_sound_chain"]


def require_sound_chain(
    lineage: Lineage,
    image: Image,
    action: str,
    *,
    stated: bool = False,
    tables: bool = True,
    opener: Opener = open_file,
) -> None:
    """Raises `NotSound` if `image` or an image below it is damaged or no disk image; `action` words the error, as in "seal".

    A seal vouches for everything below it, so the check ends at the first sealed image. See
    `cowherd.ops.inspect.soundness.require_sound` for `stated` (about `image` alone), `tables`, `opener`, and further errors.
    """
    for file in lineage.chain(image):
        if file.seal:
            return
        recorded = any(child.backing and child.backing.format for child in lineage.children(file))
        with naming_holders():
            known = "opaque" if is_opaque(file, opener) else file.format  # sealed by the bytes of its file, if at all
            require_sound(file.path, known, action=action, stated=stated, recorded=recorded, tables=tables, opener=opener)
        stated = False
