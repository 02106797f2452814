"""The places in which overlays of a sealed image lie, as its seal remembers them."""

from __future__ import annotations

import os

from cowherd.herd.records import checked
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST = 1024
_CROWD = 32  # once a directory holds so many places, one place names the directory for all of them
_FIELDS = 4


class Place(NamedTuple):
    """A directory in which overlays of a sealed image lay, and the mount point of its file system; both are absolute paths.

    `relative` leads from the image's directory to this one if the two move together, else None. `below`: the overlays lie in
    subdirectories of `directory`, which stands for all of them because they are many.
    """

    directory: str
    mount: str
    relative: str | None = None
    below: bool = False


def with_places(known: tuple[Place, ...], new: Iterable[Place]) -> tuple[Place, ...]:
    """Returns `known` and `new` places without repetition; one place stands for many in the same directory."""
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
    """Returns whether a search of the known place includes `place`."""
    directory = os.path.dirname(place.directory) if known.below else place.directory
    return known.directory == directory and known.relative == (
        os.path.dirname(place.relative) or "." if known.below and place.relative is not None else place.relative
    )


def places_from_json(value: object) -> tuple[Place, ...]:
    """Reads places from the list in a JSON record. Raises ValueError if it makes no sense."""
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
