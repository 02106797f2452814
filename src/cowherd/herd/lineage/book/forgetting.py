"""Forgetting places that no longer hold the overlays that were found there once, and places that somebody gives up."""

from __future__ import annotations

import os
from functools import cache

from cowherd.herd.lineage.book.memory import Memory, Remembered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.paths import PathName


def forget_what_is_gone(lineage: Lineage) -> list[tuple[str, Remembered]]:
    """Forgets places that were looked at and hold no overlay of their base any more; returns them, by directory of the base."""
    memory, real_of = lineage.memory, cache(os.path.realpath)
    unseen = {one.place for one in lineage.unseen}
    there = {(directory, base) for directory, base, _ in lineage.apart}
    gone: list[tuple[str, Remembered]] = []
    for home in sorted(lineage.listed):
        lost = [
            one
            for one in memory.recall(home)
            if one.directory not in unseen and (real_of(one.directory), os.path.join(home, one.base)) not in there
        ]
        if lost:
            memory.forget(home, lost)
            gone += [(home, one) for one in lost]
    return gone


def give_up(directory: PathName, bases: Iterable[PathName] = ()) -> int:
    """Forgets that overlays lie in or under a directory; the seals of `bases` forget it too. Returns the number of places.

    Raises `ImageFormatError` for a damaged seal, `HostFileError`.
    """
    from cowherd.herd.records.sealplace import seal_name  # the doctor, who forgets what is gone, needs neither
    from cowherd.herd.records.sealwriting import forget_places

    place = os.path.abspath(directory)
    number = Memory().give_up(place)
    return number + sum(forget_places(seal_name(base), place) for base in bases)
