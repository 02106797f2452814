"""Shows what is inside of an overlay that a changed base hits: its files and structures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.sizes import human_size
from cowherd.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cowherd.herd.impact.verdict import Hit

_LISTED = 12


def listing(hit: Hit, most: int | None = _LISTED) -> Iterator[str]:
    """Yields the lines about what is inside of an overlay, at most `most` (all if it is None) of each kind; none if its file
    systems were not read or nothing in them is hit."""
    inside = hit.inside
    if inside is None:
        return
    for place, found in inside.files.items():
        for what, paths in (("changed", found.changed), ("lost", found.lost), ("new", found.new)):
            yield from _capped([f"  {what:8}{printable(place)}: {printable(path)}" for path in paths], most)
    structures = [f"{printable(place)}: {name} ({human_size(size)})" for (place, name), size in inside.metadata.items()]
    yield from _capped([f"  hit     {structure}" for structure in structures], most)
    yield from _capped([f"  torn    {printable(place)}: {printable(problem)}" for place, problem in inside.contradictions], most)
    unknown = [f"  unknown {printable(place)}: {_about(path, reason)}" for place, path, reason in inside.unknown]
    yield from _capped(unknown, most)


def _about(path: str | None, reason: str) -> str:
    return printable(reason) if path is None else f"{printable(path)}: {printable(reason)}"


def _capped(lines: list[str], most: int | None) -> Iterator[str]:
    yield from lines[:most]
    if most is not None and len(lines) > most:
        yield f"          and {len(lines) - most} more; --all lists them"
