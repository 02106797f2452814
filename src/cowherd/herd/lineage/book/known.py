"""Places in which overlays are known to lie: those that seals name, and those that this host remembers."""

from __future__ import annotations

import errno
import os
from functools import cache

from cowherd.herd.lineage.book.memory import mount_point_of
from cowherd.herd.lineage.book.places import Unseen
from cowherd.herd.records.place import Place
from cowherd.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cowherd.herd.lineage.book.memory import Memory


class KnownPlaces:
    """The places that a scan learns of as it goes on; `unseen` are those that can't be looked at."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._asked: set[str] = set()
        self._pending: dict[Place, list[tuple[str, str]]] = {}  # by place: bases, each with an overlay there
        self.unseen: list[Unseen] = []

    def herds(self, named: Iterable[str]) -> list[str]:
        """Returns the named herds that can be looked at; any image may have overlays in the others."""
        seen = []
        for herd in named:
            problem = _problem_of(herd, mount_point_of(herd))
            if problem is None:
                seen.append(herd)
            else:
                self.unseen.append(Unseen("", herd, problem or "it is not there"))
        return seen

    def add_sealed(self, base: str, places: Iterable[Place]) -> None:
        """Notes the places that the seal of the image `base` names."""
        for place in places:
            named = [place, *_relative(base, place)]
            present = [one for one in named if _is_directory(one.directory)]
            for one in present or named[:1]:
                self._pending.setdefault(one, []).append((base, ""))

    def unlisted(self, listed: set[str]) -> list[Place]:
        """Returns the known places that are not among the directories `listed`, less those that can't be looked at."""
        for directory in listed - self._asked:
            self._recall(directory)
        pending, self._pending = self._pending, {}
        fresh: dict[str, Place] = {}
        real_of, problem_of = cache(os.path.realpath), cache(_problem_of)
        for place, overlays in pending.items():
            real = real_of(place.directory)
            problem = problem_of(real, place.mount)
            if problem is None and (place.below or real not in listed):
                fresh[real] = place._replace(directory=real)
            elif problem:
                self.unseen += [Unseen(base, place.directory, problem, example) for base, example in overlays]
        return list(fresh.values())

    def _recall(self, directory: str) -> None:
        self._asked.add(directory)
        home = os.path.join(directory, "")
        known: dict[tuple[str, str], list[tuple[str, str]]] = {}  # many bases have overlays in few directories
        for where, mount, base, example in self._memory.recall(directory):
            overlays = known.get((where, mount))
            if overlays is None:
                overlays = known[where, mount] = self._pending.setdefault(Place(where, mount), [])
            overlays.append((home + base, example))


def _relative(base: str, place: Place) -> list[Place]:
    """Returns where a place is if it has moved together with its base."""
    if place.relative is None:
        return []
    moved = os.path.normpath(os.path.join(os.path.dirname(base), place.relative))
    return [place._replace(directory=moved, mount=mount_point_of(moved))] if moved != place.directory else []


def _is_directory(path: str) -> bool:
    try:
        return os.path.isdir(path)
    except ValueError:
        return False


def _problem_of(directory: str, mount: str) -> str | None:
    """Returns why nobody can look into a place, None if it can be looked at, "" if it is gone: nothing lies there any more."""
    try:
        with os.scandir(directory) as entries:
            if next(entries, None) is None and mount_point_of(directory) != mount:
                return _not_mounted(mount)
            return None
    except (FileNotFoundError, NotADirectoryError):
        return _not_mounted(mount) if mount_point_of(directory) != mount else ""
    except OSError as error:
        return "" if error.errno == errno.ENAMETOOLONG else error.strerror or str(error)


def _not_mounted(mount: str) -> str:
    return f"the file system that was mounted on {printable(mount)} is not there"
