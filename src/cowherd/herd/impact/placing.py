"""Says where on the disk the files lie that a change hits."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cowherd import extents

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cowherd.extents import Ranges
    from cowherd.guest.chart import FileSystem

MOST = 256
"""So many files of a file system are placed: a picture has room for no more."""


class Placed(NamedTuple):
    """A file with bytes in a change: its path in the file system at `place`, the disk's first such byte, and their number."""

    place: str
    path: str
    start: int
    size: int


def placed_files(states: Iterable[FileSystem], paths: Iterable[str], exposed: Ranges) -> Iterator[Placed]:
    """Yields where the files at some paths are hit by `exposed`; each as the first of some states of a file system has it.

    A file without such bytes is left out: it is hit because a structure is that leads to it. Directories end with a slash.
    """
    left = set(paths)
    for system in states:
        for path in sorted(left)[:MOST]:
            entry = system.files.get(path.removesuffix("/") or path)
            hit = extents.intersect(entry.ranges, exposed) if entry and entry.problem is None else exposed[:0]
            if len(hit):
                left.discard(path)
                yield Placed(system.place, path, int(hit[0, 0]), extents.total(hit))
