"""Which image of a chain a commit writes to, by QEMU's rules. No tables are read for it: the gate is asked before that."""

from __future__ import annotations

import os

from cowherd.errors import InvalidRequest
from cowherd.image.backing import has_protocol, resolve
from cowherd.storage.opening import require_host
from cowherd.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cowherd.formats.layer import Layer, LayerOutline


def find_base(layers: Sequence[Layer | LayerOutline], base: str | None) -> int:
    """Returns the depth of the layer that `base` names, at least 1; None names the immediate backing file.

    Raises `InvalidRequest` if there is no such layer.
    """
    if base is None:
        if len(layers) < 2:
            raise InvalidRequest("Image does not have a backing file")
        return 1
    for depth in range(1, len(layers)):
        if _names(layers[depth - 1], layers[depth], base):
            return depth
    for depth in range(1, len(layers)):
        if os.path.realpath(base) == os.path.realpath(require_host(layers[depth].file).path):
            return depth
    top = layers[0].file.path
    raise InvalidRequest(f"Did not find '{printable(base)}' in the backing chain of '{printable(top)}'")


def _names(overlay: Layer | LayerOutline, below: Layer | LayerOutline, base: str) -> bool:
    """Returns whether `base` names `below` as seen from `overlay`, by QEMU's rules ("bdrv_find_backing_image")."""
    stored = overlay.backing
    if stored is None:
        return False
    if has_protocol(base) or has_protocol(stored.name):
        return base in (stored.name, resolve(overlay.file.path, stored).name)
    candidate = os.path.join(os.path.dirname(require_host(overlay.file).path), base)
    return bool(os.path.realpath(candidate) == os.path.realpath(require_host(below.file).path))
