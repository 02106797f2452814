"""Forgetting: places in which overlays were found once, and are no more, or that somebody gives up."""

from __future__ import annotations

import os
from functools import cache

from cowherd.herd.book.memory import Memory, Remembered
from cowherd.herd.sealfile import seal_name, without_places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cowherd.herd.lineage import Lineage


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


def give_up(directory: str | os.PathLike[str], bases: Iterable[str | os.PathLike[str]] = ()) -> int:
    """Forgets that overlays lie in or under a directory; the seals of `bases` forget it too. Returns how many places that were.

    Raises `ImageFormatError` for a damaged seal, `HostFileError`.
    """
    place = os.path.abspath(directory)
    number = Memory().give_up(place)
    return number + sum(without_places(seal_name(base), place) for base in bases)
