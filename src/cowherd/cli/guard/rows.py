"""A list in a JSON document whose objects are made while it is written."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any


class Rows:
    """Objects, mostly of plain values and lists of these, too many for any encoder but the one in C.

    Each object is made only when it is printed.
    """

    def __init__(self, objects: Iterable[Mapping[str, Any]]):
        """`objects` is read once."""
        self._objects = objects

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self._objects)
