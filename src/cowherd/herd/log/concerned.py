"""Gathers the images that a command changes, where it is known: right before the change. The end of the command logs them."""

from __future__ import annotations

import contextlib
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeAlias

    from cowherd.paths import PathName

    Files: TypeAlias = dict[str, tuple[int, int] | None]
    """Paths without symbolic links, each with the (device, inode) of the image there, None where there is none."""

_gatherers: list[Files] = []


@contextlib.contextmanager
def gathering(named: Iterable[PathName]) -> Iterator[Files]:
    """Yields the files `named`, as they are now, to which every image is added that is noted while the block runs."""
    files: Files = {}
    _gatherers.append(files)
    try:
        note(named)
        yield files
    finally:
        _gatherers.remove(files)


def note(images: Iterable[PathName]) -> None:
    """Adds images, as they are now, to what is being gathered. One that is to be made may be noted, too."""
    if _gatherers:
        for path in map(os.path.realpath, images):
            for files in _gatherers:
                if path not in files:
                    files[path] = file_at(path)


def file_at(path: str) -> tuple[int, int] | None:
    """Returns the (device, inode) of the file or block device at a path, None if there is no such thing that can be seen."""
    try:
        info = os.stat(path)
    except (OSError, ValueError):
        return None
    return (info.st_dev, info.st_ino) if stat.S_ISREG(info.st_mode) or stat.S_ISBLK(info.st_mode) else None
