"""Tells whether an image holds data of its own. If nothing was ever written to it, no overlay can rely on its content."""

from __future__ import annotations

from cowherd.errors import CowherdError
from cowherd.formats import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.herd.lineage.scan import Image


def holds_nothing(image: Image) -> bool:
    """Returns whether an image has no data of its own, neither now nor in a snapshot; False if that is not known.

    For a qcow2 image it reads the L1 table; for a raw one it asks the host whether the file is one hole.
    """
    from cowherd.storage.hostfile import HostFile

    try:
        with HostFile.open(image.filename, lock=None) as file:
            return registry.named(image.format).holds_nothing(file)
    except CowherdError:
        return False  # it can't be read, so it may hold data
