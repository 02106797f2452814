"""The name that an overlay is to store for its base."""

from __future__ import annotations

import functools
import os

from cowherd.formats.reference import BackingReference
from cowherd.herd.lineage.trashed import is_trashed
from cowherd.image.backing import has_protocol, resolve
from cowherd.paths import as_path, lies_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.herd.lineage.scan import Image
    from cowherd.paths import PathName


def stored_name(base: PathName, overlay: PathName) -> str:
    """Returns how `overlay` names `base`, both resolved paths: by a relative path where both lie in one tree and move together.

    They do where the directory of one holds that of the other, or where both lie side by side; elsewhere the path is absolute. It
    is absolute too for an overlay in the trash, which comes back to another directory.
    """
    here = os.path.dirname(overlay)
    together = move_together(here, os.path.dirname(base)) and not is_trashed(overlay)
    name = os.path.relpath(base, here) if together else os.fspath(base)
    return f"./{name}" if has_protocol(name) else name


@functools.lru_cache(maxsize=1024)
def move_together(overlay_directory: str, base_directory: str) -> bool:
    """Returns whether two directories are one, lie side by side, or one holds the other, apart from the root directory."""
    here, there = overlay_directory, base_directory
    trees = (place for place in (here, there, os.path.dirname(here)) if place.strip("/"))
    return here == there or any(lies_in(here, tree) and lies_in(there, tree) for tree in trees)


def reference_for(overlay: Image, base: PathName, base_format: str | None) -> BackingReference:
    """Returns how `overlay` is to name the file `base`: as `clone` would, absolutely if it has names in several directories."""
    real = as_path(os.path.realpath(base))
    directories = {name.parent for name in overlay.names}
    return BackingReference(stored_name(real, overlay.path) if len(directories) == 1 else os.fspath(real), base_format)


def breaks_when_moved(image: Image, base: Image, base_directory: str | None = None) -> bool:
    """Whether the base's name is relative to the working directory, or to a directory that does not move together with the base.

    `base_directory`: the directory of the base's file, if the caller knows it.
    """
    assert image.backing is not None
    name = image.backing.name
    if has_protocol(name):
        return not os.path.isabs(resolve(image.path, image.backing).name)
    real = base_directory or os.path.dirname(os.path.realpath(base.filename))
    return not os.path.isabs(name) and not move_together(os.path.dirname(image.filename), real)
