"""Where bases of a family changed, and what each dependent sees of that: as pictures of the disk, and in figures."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cowherd.cli.guard.look.page.markup import Places, badge
from cowherd.cli.guard.look.page.pictures import axis, signposts, strip
from cowherd.cli.guard.look.page.states import rank_of, severity_of
from cowherd.herd.machines.running import in_words
from cowherd.pages.markup import Severity, count_of, text
from cowherd.sizes import human_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cowherd.herd.impact.inside import Inside
    from cowherd.herd.impact.placing import Placed
    from cowherd.herd.report.overview import DriftPicture, HitPicture, Spans

_LISTED = 12
_LISTED_RANGES = 64
_NO_ROOM = " (no room for a picture)"
_SIGNPOSTS = 32
"""So many have room above one axis."""

_OPEN = 24
"""The number of strips of a base that are shown at first."""


class Paper:
    """The room that a page has for pictures of overlays, in characters: thousands of them are too much for a browser."""

    def __init__(self, room: int):
        self._left = room

    def take(self, picture: str) -> bool:
        """Returns whether there is room for a picture; if so, it is taken. Once there is not, there is none for any later one."""
        self._left = self._left - len(picture) if len(picture) <= self._left else 0
        return self._left > 0


def change_of(drift: DriftPicture, state: str, places: Places, paper: Paper) -> Iterator[str]:
    """Yields what is known of a changed base: a line, and a strip for the base and for each of its dependents.

    Dependents that see exactly the same are one strip.
    """
    name = places.shown(drift.path)
    yield f"<section class=change><h4><span class=name>{name}</span>"
    if drift.problem:
        yield f" {badge(state)}</h4><p>{text(drift.problem)}</p></section>"
        return
    if not drift.changed:
        yield f" {badge('ok')}</h4><p>Its content is as sealed; only its file was touched.</p></section>"
        return
    changed = f"{human_size(_total(drift.changed))} of {human_size(drift.size)}"
    yield f" {badge(state)} {changed} changed, in {count_of(len(drift.changed), 'range')}</h4>"
    yield from _ranges(drift.changed)
    picture = strip(drift.size, [("changed", "whole", drift.changed)], f"where {name} changed")
    yield f"<div class=strips><div class=base><div>changed</div><div>{picture}{axis(drift.size)}</div></div>"
    alike = _alike(drift.hits)
    yield from (_strip(drift.size, hits, places, paper) for hits in alike[:_OPEN])
    yield "</div>"
    if len(alike) > _OPEN:
        yield f"<details><summary>{len(alike) - _OPEN:,} more that differ</summary><div class=strips>"
        yield from (_strip(drift.size, hits, places, paper) for hits in alike[_OPEN:])
        yield "</div></details>"
    yield "</section>"


def _ranges(ranges: Spans) -> Iterator[str]:
    yield "<details class=ranges><summary>which bytes</summary><ul class=name>"
    yield from (f"<li>{start:#x} to {end:#x} ({human_size(end - start)})</li>" for start, end in ranges[:_LISTED_RANGES])
    if len(ranges) > _LISTED_RANGES:
        yield f"<li>and {len(ranges) - _LISTED_RANGES:,} more</li>"
    yield "</ul></details>"


def _alike(hits: Sequence[HitPicture]) -> list[list[HitPicture]]:
    """Returns the hits in groups of which all see the same, the worst first, and among equals the most first."""
    found: dict[object, list[HitPicture]] = {}
    for hit in hits:
        inside = repr(hit.inside.to_json()) if hit.inside else ""
        found.setdefault((hit.verdict, hit.exposed, hit.shielded, hit.problem, hit.snapshot, inside), []).append(hit)
    return sorted(found.values(), key=lambda group: (rank_of(group[0].verdict), -len(group)))


def _strip(size: int, hits: Sequence[HitPicture], places: Places, paper: Paper) -> str:
    first = hits[0]
    who = f"{badge(first.verdict)}{_who(hits, places)}"
    if first.problem:
        return f"<div><div>{who}</div><div>{text(first.problem)}</div></div>"
    figures = f"{human_size(_total(first.exposed))} exposed, {human_size(_total(first.shielded))} shielded"
    shape = "split" if severity_of(first.verdict) is Severity.WARN else "whole"
    layers = [("shielded", "low", first.shielded), (str(severity_of(first.verdict)), shape, first.exposed)]
    picture = strip(size, layers, f"where {text(os.path.basename(first.path))} sees the change")
    spots = _spots(size, first.inside.placed) if first.inside else []
    picture = picture + (signposts(size, [spot[0].start for spot in spots]) if spots else "")
    picture = picture if paper.take(picture) else ""
    lies = "".join(_lying(spots)) if picture else ""
    inside = "".join(_files(first.inside)) if first.inside else ""
    return f"<div><div>{who}<p>{figures}{'' if picture else _NO_ROOM}</p></div><div>{picture}{lies}{inside}</div></div>"


def _who(hits: Sequence[HitPicture], places: Places) -> str:
    names = [_name(hit, places) for hit in hits]
    if len(names) == 1:
        return f"<span class=name>{names[0]}</span>"
    running = sum(bool(hit.machines) for hit in hits)
    run = f" <strong>{running:,} of them run now</strong>" if running else ""
    return f"<details><summary>{count_of(len(names), 'overlay')}{run}</summary><p class=name>{'<br>'.join(names)}</p></details>"


def _name(hit: HitPicture, places: Places) -> str:
    of = "" if hit.snapshot is None else f" (snapshot {text(hit.snapshot)})"
    runs = in_words(hit.machines, 0, 0, hidden=0)
    return f"{places.shown(hit.path)}{of}{f' <strong>{text(runs)}</strong>' if runs else ''}"


def _spots(size: int, placed: Iterable[Placed]) -> list[list[Placed]]:
    """Returns the files that are hit, from the disk's first byte on, in groups that lie too near for signposts of their own."""
    spots: list[list[Placed]] = []
    for one in sorted(placed, key=lambda one: one.start):
        if spots and (one.start - spots[-1][0].start) * _SIGNPOSTS < size:
            spots[-1].append(one)
        else:
            spots.append([one])
    return spots


def _lying(spots: Iterable[Sequence[Placed]]) -> Iterator[str]:
    """Yields what lies at each signpost: a list with their numbers."""
    yield "<ol class=files>"
    for spot in spots:
        named = [f"{text(one.path)} ({human_size(one.size)})" for one in spot]
        more = f", and {len(named) - _LISTED:,} more" if len(named) > _LISTED else ""
        yield f"<li>at {human_size(spot[0].start)}: <span class=name>{', '.join(named[:_LISTED])}</span>{more}</li>"
    yield "</ol>"


def _files(inside: Inside) -> Iterator[str]:
    """Yields what lies where an overlay sees the change: files and structures of its file systems."""
    yield "<ul class=files>"
    for place, found in inside.files.items():
        for what, paths in (("changed", found.changed), ("lost", found.lost), ("new", found.new)):
            yield from _listed(f"{what} in {text(place)}", [text(path) for path in paths])
    structures = [f"{text(place)}: {text(name)} ({human_size(size)})" for (place, name), size in inside.metadata.items()]
    yield from _listed("structures hit", structures)
    yield from _listed("contradictions", [f"{text(place)}: {text(problem)}" for place, problem in inside.contradictions])
    unknown = [f"{text(place)}: {text(path) + ': ' if path else ''}{text(reason)}" for place, path, reason in inside.unknown]
    yield from _listed("unknown", unknown)
    yield "</ul>"


def _listed(what: str, items: Sequence[str]) -> Iterator[str]:
    if items:
        more = f", and {len(items) - _LISTED:,} more" if len(items) > _LISTED else ""
        yield f"<li>{what}: <span class=name>{', '.join(items[:_LISTED])}</span>{more}</li>"


def _total(ranges: Spans) -> int:
    return sum(end - start for start, end in ranges)
