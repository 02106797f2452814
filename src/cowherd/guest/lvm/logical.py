"""LVM2's logical volumes: the pieces of a disk that make up a linear or striped one, or why it can't be read.

Source: LVM2, lib/format_text (export.c and import_vsn1.c: keys of segments), lib/snapshot, lib/striped.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cowherd import extents
from cowherd.extents import Ranges
from cowherd.guest.chart import NO_RANGES
from cowherd.guest.lvm.physical import Group
from cowherd.guest.lvm.text import Section, list_of, number_of, sections_of, text_of
from cowherd.guest.owners import overlaps
from cowherd.guest.source import Malformed

Pieces = NDArray[np.int64]
"""An array of shape (n, 2): guest byte of the disk, length; in the order of the volume."""

Areas = Mapping[str, tuple[int, int] | None]
"""Guest byte of the first extent and number of extents of each physical volume; None if it lies on another disk."""

_MOST_PIECES = 1 << 20
_MOST_SEGMENTS = 1 << 16
_PLAIN = ("striped", "linear")  # LVM writes a linear segment as a striped one with one stripe
_NO_PIECES: Pieces = np.empty((0, 2), np.int64)


@dataclass(frozen=True, eq=False)
class Logical:
    """One logical volume: `span` is what it occupies, `pieces` the same in its own order, `reason` why it can't be read."""

    name: str
    pieces: Pieces
    span: Ranges
    reason: str = ""


def read_logical(group: Group, areas: Areas, extent: int) -> list[Logical]:
    """Returns the logical volumes of a group. Raises `Malformed` if the metadata contradict themselves."""
    volumes = sections_of(group.section, "logical_volumes")
    segments = {name: _segments(section) for name, section in volumes.items()}
    if sum(map(len, segments.values())) > _MOST_SEGMENTS:
        raise Malformed("its LVM metadata have too many segments")
    used_by = _users(segments)
    found, everything = [], [NO_RANGES]
    for name, section in volumes.items():
        occupied = np.concatenate([NO_RANGES, *(_occupied(segment, areas, extent) for segment in segments[name])])
        reason = _reason(section, segments[name], used_by.get(name, {}), areas)
        pieces = _NO_PIECES if reason else _pieces(segments[name], areas, extent)
        if len(pieces) > _MOST_PIECES:
            reason, pieces = "it is striped over too many pieces", _NO_PIECES
        found.append(Logical(name, pieces, extents.normalised(occupied), reason))
        everything.append(occupied)
    if len(overlaps(np.concatenate(everything))):
        raise Malformed("two of its LVM logical volumes share extents")
    return found


def _segments(section: Section) -> list[Section]:
    """Returns a volume's segments in order; together they cover the volume without a gap."""
    count = number_of(section, "segment_count")
    inner = {name: value for name, value in section.items() if isinstance(value, dict)}
    if count > len(inner):
        raise Malformed("its LVM metadata lack a segment")
    found = [inner.get(f"segment{number}", {}) for number in range(1, count + 1)]
    at = 0
    for segment in found:
        if number_of(segment, "start_extent") != at:
            raise Malformed("its LVM metadata have segments that do not follow each other")
        at += number_of(segment, "extent_count", 1)
        if at > 1 << 40:
            raise Malformed("its LVM metadata have a segment that makes no sense")
        text_of(segment, "type")
    return found


def _users(segments: Mapping[str, list[Section]]) -> dict[str, dict[str, str]]:
    """Returns for each volume the names of the volumes that refer to it, each with the type of the referring segment.

    A snapshot does not count as using its origin: the origin's own extents hold its content.
    """
    found: dict[str, dict[str, str]] = {}
    for name, parts in segments.items():
        for segment in parts:
            kind = _kind(segment)
            for key, value in segment.items():
                for word in value if isinstance(value, list) else [value]:
                    # A snapshot that is being merged has merging_store instead; the origin's content is then still partly there.
                    origin = kind == "snapshot" and key == "origin" and "cow_store" in segment
                    if isinstance(word, str) and word in segments and not origin:
                        found.setdefault(word, {})[name] = kind
    return found


def _kind(segment: Section) -> str:
    """Returns a segment's type, without the flags that may follow it after a plus sign."""
    return text_of(segment, "type").partition("+")[0]


def _reason(section: Section, segments: list[Section], users: Mapping[str, str], areas: Areas) -> str:
    """Returns why a volume can't be read, an empty string if it can."""
    for kind in sorted(set(users.values())):
        return f"it is a part of an LVM volume of type {kind}, which is not read here"
    for segment in segments:
        if (kind := _kind(segment)) not in _PLAIN or "+" in text_of(segment, "type"):
            return f"it is an LVM volume of type {kind}, which is not read here"
        if any(isinstance(name, str) and areas.get(name) is None for name in list_of(segment, "stripes")):
            return "a part of it lies on another disk"
    return "" if "VISIBLE" in list_of(section, "status") else "it is a hidden LVM volume"


def _places(segment: Section, areas: Areas, extent: int) -> list[tuple[int, int]]:
    """Returns the (guest byte, length) of each stripe of a segment that lies on this disk."""
    stripes, kind = segment.get("stripes", []), _kind(segment)
    if kind not in _PLAIN or not isinstance(stripes, list):
        return []
    # The list has the name of a physical volume and the number of its first extent in turn, one pair a stripe.
    count, number = number_of(segment, "extent_count", 1), number_of(segment, "stripe_count", 1)
    if len(stripes) != 2 * number or count % number:
        raise Malformed("its LVM metadata have a segment that makes no sense")
    found = []
    for name, first in zip(stripes[::2], stripes[1::2], strict=True):
        if not isinstance(name, str) or not isinstance(first, int):
            raise Malformed("its LVM metadata have a segment that makes no sense")
        area = areas.get(name)
        if area and not 0 <= first <= first + count // number <= area[1]:
            raise Malformed("its LVM metadata have a segment past the end of a physical volume")
        if area:
            found.append((area[0] + first * extent, count // number * extent))
    return found


def _occupied(segment: Section, areas: Areas, extent: int) -> Ranges:
    """Returns the guest bytes that a segment of any type holds, in any order."""
    if _kind(segment) in _PLAIN:
        pairs = [(start, start + length) for start, length in _places(segment, areas, extent)]
    else:
        lists = [value for value in segment.values() if isinstance(value, list)]
        count = number_of(segment, "extent_count", 1)
        pairs = [pair for words in lists for pair in _named_extents(words, count, areas, extent)]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _named_extents(words: list[int | str], count: int, areas: Areas, extent: int) -> Iterator[tuple[int, int]]:
    """Yields the (start, end) guest bytes that a list of physical volumes, each with the number of an extent, may stand for."""
    for name, first in itertools.pairwise(words):
        area = areas.get(name) if isinstance(name, str) else None
        if area and isinstance(first, int):
            low, high = max(0, min(first, area[1])), max(0, min(first + count, area[1]))
            yield area[0] + low * extent, area[0] + high * extent


def _pieces(segments: list[Section], areas: Areas, extent: int) -> Pieces:
    parts, total = [_NO_PIECES], 0
    for segment in segments:
        places = np.array(_places(segment, areas, extent), np.int64).reshape(-1, 2)
        if len(places) > 1:
            size = number_of(segment, "stripe_size", 1) * 512
            if extent % size:
                raise Malformed("its LVM metadata have stripes of a size that makes no sense")
            total += len(places) * (int(places[0, 1]) // size)
            places = _striped(places, size) if total <= _MOST_PIECES else np.zeros((_MOST_PIECES + 1, 2), np.int64)
        parts.append(places)
    return np.concatenate(parts)


def _striped(places: Pieces, size: int) -> Pieces:
    """Returns the pieces of one striped segment in the volume's order: `size` bytes from each stripe in turn."""
    rows = np.arange(int(places[0, 1]) // size, dtype=np.int64) * size
    starts = (places[:, 0] + rows[:, None]).reshape(-1)
    return np.column_stack((starts, np.full(len(starts), size, np.int64)))
