"""A list of a JSON document that is made while it is written."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any


class Rows:
    """Objects that hold plain values, and lists of these at most: so many that the encoder in C is to write them.

    Each is made when it is to be printed.
    """

    def __init__(self, objects: Iterable[Mapping[str, Any]]):
        """`objects` are gone through once."""
        self._objects = objects

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self._objects)
