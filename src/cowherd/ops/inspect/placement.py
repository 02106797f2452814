"""Checks of where the tables lie: inside the file, and without overlaps."""

from __future__ import annotations

from collections.abc import Iterable

from cowherd.ops.inspect.head import Region
from cowherd.ops.inspect.report import Check, judge


def check_inside(regions: Iterable[Region], file_size: int) -> Check:
    """Refuses tables that reach past the file's end."""
    outside = [region for region in regions if region.what != "header" and region.end > file_size]
    problem = None
    if outside:
        first = outside[0]
        problem = f"the {first.what} ({first.length} bytes at {first.offset:#x}) leaves the file of {file_size} bytes"
    return judge("inside-the-file", problem)


def check_apart(regions: Iterable[Region]) -> Check:
    """Refuses tables that overlap."""
    return judge("apart", first_overlap(sorted(regions, key=lambda region: region.offset)))


def first_overlap(ordered: list[Region]) -> str | None:
    """Names the first two regions that overlap, None if none do. `ordered` is in the order of offsets."""
    last: Region | None = None
    for region in ordered:
        if last is not None and region.offset < last.end:
            return f"the {region.what} at {region.offset:#x} lies in the {last.what} at {last.offset:#x}"
        last = region
    return None
