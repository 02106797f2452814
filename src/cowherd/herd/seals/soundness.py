"""Looking at an image and what lies below it before a seal, or a first overlay, makes what they show the truth for ever."""

from __future__ import annotations

from cowherd.herd.seals.opaque import is_opaque
from cowherd.live.holders import naming_holders
from cowherd.ops.inspect.soundness import NotSound, require_sound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image

__all__ = ["NotSound", "require_sound_chain"]


def require_sound_chain(lineage: Lineage, image: Image, action: str, *, stated: bool = False, tables: bool = True) -> None:
    """Raises `NotSound` if `image` or what lies below it is damaged or no disk; `action` is what is refused then, as in "seal".

    A seal vouches for all that lies below it, so that nothing is looked at from the first sealed image on. See
    `cowherd.ops.inspect.soundness.require_sound` for `stated` (of `image` alone), `tables`, and what else is raised.
    """
    for file in lineage.chain(image):
        if file.seal:
            return
        recorded = any(child.backing and child.backing.format for child in lineage.children(file))
        with naming_holders():
            known = "opaque" if is_opaque(file) else file.format  # sealed by the bytes of its file, if at all
            require_sound(file.path, known, action=action, stated=stated, recorded=recorded, tables=tables)
        stated = False
