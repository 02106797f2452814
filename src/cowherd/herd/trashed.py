"""Deleted overlays that may come back: what they stand on is still needed.

They are images of a herd as others are, but for their names: an overlay in the trash finds its base from the directory that it
was deleted from.
"""

from __future__ import annotations

import os

from cowherd.herd.header import Head, read_image
from cowherd.herd.listing import TRASH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.herd.scan import Found


def add_trashed(found: Found) -> None:
    """Adds the overlays in the trash directories that a scan has met, but for those that are on their way back."""
    for directory in found.trashes:
        from cowherd.herd.trashbox import entries
        from cowherd.paths import as_path

        for entry in entries(as_path(directory, TRASH))[0]:
            path = os.fspath(entry.image)
            if _stands_on_something(path):
                info = os.lstat(path)
                back = (info.st_dev, info.st_ino) in found.images
                image = None if back else found.add(path)
                if image:
                    found.trashed[image.key] = os.fspath(entry.path)


def _stands_on_something(path: str) -> bool:
    try:
        head = read_image(path).content
    except OSError:
        return False  # gone, or no file that may be read, since it was listed
    return isinstance(head, Head) and (head.backing is not None or head.data_file is not None)


def is_trashed(path: str | os.PathLike[str]) -> bool:
    """Returns whether a file lies in a trash directory, as an entry's image does."""
    return os.path.basename(os.path.dirname(os.path.dirname(os.fspath(path)))) == TRASH
