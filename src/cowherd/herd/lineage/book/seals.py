"""What seals remember of the places in which overlays of their images lie."""

from __future__ import annotations

import os

from cowherd.errors import ImageFormatError
from cowherd.herd.lineage.book.memory import mount_point_of
from cowherd.herd.lineage.trashed import is_trashed
from cowherd.herd.records.place import Place
from cowherd.herd.records.sealwriting import add_places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cowherd.herd.lineage.scan import Image


def remember_overlay(base: Image, overlay: str) -> None:
    """Records in the seal of `base`, if there is one, where an overlay of it lies now. Raises `HostFileError`."""
    seal = base.seal
    places = places_of(base.filename, [overlay]) if seal else ()
    if seal and places:
        try:
            add_places(seal, places)
        except ImageFormatError:
            return  # a damaged seal, which verify reports, remembers nothing


def places_of(base: str, overlays: Iterable[str]) -> tuple[Place, ...]:
    """Returns the places of overlays of the image `base`, except its own directory, which every search looks into."""
    home = os.path.dirname(os.path.realpath(base))
    present = (overlay for overlay in overlays if not is_trashed(overlay))
    directories = dict.fromkeys(os.path.dirname(os.path.realpath(overlay)) for overlay in present)
    return tuple(_place(home, directory) for directory in directories if directory != home)


def _place(home: str, directory: str) -> Place:
    from cowherd.herd.lineage.backing_names import move_together

    relative = os.path.relpath(directory, home) if move_together(directory, home) else None
    return Place(directory, mount_point_of(directory), relative)
