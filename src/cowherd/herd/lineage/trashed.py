"""Finds deleted overlays, which may come back, so that their bases are still needed.

They are images of a herd like others, except for their names: the reference of an overlay in the trash is resolved from the
directory in which it was before.
"""

from __future__ import annotations

import os

from cowherd.herd.records.header import Head, read_image
from cowherd.herd.records.ownership import TRASH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cowherd.paths import PathName


def deleted_overlays(directories: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yields the overlays in the trash of each of `directories`: the file there, and the path that it had."""
    for directory in directories:
        from cowherd.herd.records.trashbox import entries
        from cowherd.paths import as_path

        for entry in entries(as_path(directory, TRASH))[0]:
            path = os.fspath(entry.image)
            if _needs_other_file(path):
                yield path, os.fspath(entry.path)


def _needs_other_file(path: str) -> bool:
    try:
        head = read_image(path).content
    except OSError:
        return False  # it disappeared after the listing, or this user may not read it
    return isinstance(head, Head) and (head.backing is not None or head.data_file is not None)


def is_trashed(path: PathName) -> bool:
    """Returns whether a file lies in a trash directory, as an entry's image does."""
    return os.path.basename(os.path.dirname(os.path.dirname(os.fspath(path)))) == TRASH
