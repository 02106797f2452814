"""What a seal remembers of a place in which overlays of its image lie."""

from __future__ import annotations

import os

from cowherd.herd.records import checked
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST = 1024
_CROWD = 32  # places in one directory, above which the directory itself is named
_FIELDS = 4


class Place(NamedTuple):
    """A directory in which overlays of a sealed image lay, and where its file system was mounted, both absolute.

    `relative` leads there from the image's own directory where the two move together, None elsewhere. `below`: it is the parent
    of very many such directories, named in their place.
    """

    directory: str
    mount: str
    relative: str | None = None
    below: bool = False


def with_places(known: tuple[Place, ...], new: Iterable[Place]) -> tuple[Place, ...]:
    """Returns places without repetition; of very many in one directory that directory stands for all."""
    places = list(known)
    for place in new:
        if any(covers(other, place) for other in places):
            continue
        parent = os.path.dirname(place.directory)
        beside = [other for other in places if os.path.dirname(other.directory) == parent and not other.below]
        if len(beside) >= _CROWD:
            relative = None if place.relative is None else os.path.dirname(place.relative) or "."
            places = [other for other in places if other not in beside]
            place = Place(parent, place.mount, relative, below=True)
        places.append(place)
    return tuple(places[:_MOST])


def covers(known: Place, place: Place) -> bool:
    """Returns whether who looks at a known place looks at `place` too."""
    directory = os.path.dirname(place.directory) if known.below else place.directory
    return known.directory == directory and known.relative == (
        os.path.dirname(place.relative) or "." if known.below and place.relative is not None else place.relative
    )


def places_from_json(value: object) -> tuple[Place, ...]:
    """Reads a list of places as JSON has it. Raises ValueError where it makes no sense."""
    return tuple(_place_from_json(checked.row(place, _FIELDS)) for place in checked.row(value, _MOST))


def _place_from_json(fields: list[object]) -> Place:
    if len(fields) != _FIELDS:
        raise ValueError("a place is not of four parts")
    directory, mount, relative, below = fields
    place = Place(
        checked.path_name(directory),
        checked.path_name(mount),
        None if relative is None else checked.path_name(relative),
        checked.yes_or_no(below),
    )
    if not (os.path.isabs(place.directory) and os.path.isabs(place.mount)) or (place.relative and os.path.isabs(place.relative)):
        raise ValueError("a place is no absolute path, or its relative one is")
    return place
