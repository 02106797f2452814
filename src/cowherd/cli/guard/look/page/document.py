"""Writes a herd as one HTML page: its findings, and its families, the worst first."""

from __future__ import annotations

import os
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cowherd.cli.guard.look.page.changes import Paper, change_of
from cowherd.cli.guard.look.page.families import Family, families_of
from cowherd.cli.guard.look.page.findings import of_family, overall
from cowherd.cli.guard.look.page.markup import Places, anchor, badge, badges
from cowherd.cli.guard.look.page.rows import images_of
from cowherd.cli.guard.look.page.states import rank_of
from cowherd.herd.machines.running import hidden_in_words
from cowherd.pages.markup import Severity, count_of, text
from cowherd.pages.style import source_of, style
from cowherd.sizes import human_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cowherd.herd.report.overview import Overview

_ROOM_FOR_STRIPS = 512 << 10
_FEW_IMAGES, _OPEN_FAMILIES = 40, 3
_LEGEND = (
    "Each strip is a whole disk, from its first byte to its last. <span class=bad>A full bar</span>: what an overlay sees has "
    "changed, and it holds writes that were made on what was there before. <span class=warn>A split bar</span>: it sees the "
    "change, and has nothing of its own that contradicts it. <span class=good>A low bar</span>: bytes of its own shield it."
)
_PARTS = {Severity.BAD: "Wrong", Severity.WARN: "Noted", Severity.GOOD: "Fine"}


class _Shared(NamedTuple):
    """What all families of a page share; see `images_of`."""

    places: Places
    paper: Paper
    largest: int
    hidden_machines: int


def page(seen: Overview, version: int | None = None) -> str:
    """Returns the page. Names from outside are escaped; it loads nothing, and runs no script but its own.

    With a `version` the page is a live one: its script asks the server for the present version, and loads the page anew if it
    is another.
    """
    places, (families, others) = Places(seen), families_of(seen)
    names = ", ".join(text(name) for name in seen.tree.directory_names)
    live = "" if version is None else f" data-version={version}"
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy(live=version is not None)}">',
        f"<title>Herd: {names}</title>\n<style>{_style()}</style>\n</head>\n<body{live}>",
        f"<header><h1>Herd</h1><p class=name>{names}</p><p class=faint>as it was at <time>{text(seen.made)}</time>",
        "<output class=live></output></p>",
        *_facts(seen),
        "</header>",
        *_tools(families),
        "<section class=overall><h2>Findings</h2>",
        *overall(families, others, places),
        "</section>",
        *_parts(families, seen, places),
        *_keys(),
        f"<script>{_script()}</script>\n</body>\n</html>\n",
    ]
    return "\n".join(parts)


def policy(*, live: bool) -> str:
    """Returns what the page may do, as a Content Security Policy: its own style and script; if it is live, to ask its server."""
    own = f"style-src {source_of(_style())}; script-src {source_of(_script())}"
    ask = "; connect-src 'self'" if live else ""
    return f"default-src 'none'; {own}; base-uri 'none'; form-action 'none'{ask}"


def _style() -> str:
    return style(Path(__file__).with_name("style.css"))


@cache
def _script() -> str:
    return Path(__file__).with_name("script.js").read_text(encoding="utf-8")


def _facts(seen: Overview) -> Iterator[str]:
    nodes, findings = seen.tree.nodes, seen.diagnosis.findings
    wrong = sum(not finding.kind.is_note for finding in findings)
    facts = [
        (f"{len(nodes):,}", "images"),
        (f"{sum(node.dependents > 0 for node in nodes):,}", "bases"),
        (f"{sum(node.level is not None for node in nodes):,}", "sealed"),
        (human_size(sum(node.disk_size for node in nodes)), "on disk"),
        (f"{wrong:,}", "wrong"),
        (f"{len(findings) - wrong:,}", "notes"),
    ]
    running = sum(bool(node.machines) for node in nodes)
    facts += [(f"{running:,}", "run now")] if running else []
    yield "<ul class=facts>"
    for value, what in facts:
        yield f"<li{' class=bad' if what == 'wrong' and wrong else ''}><strong>{value}</strong>{what}</li>"
    yield "</ul>"


def _tools(families: Sequence[Family]) -> Iterator[str]:
    """Yields what the script works with; hidden unless it runs."""
    states: Counter[str] = Counter()
    for family in families:
        states += family.states
    yield "<form class=tools hidden>"
    yield "<input type=search placeholder='search: part of a name' aria-label='search for images' autocomplete=off>"
    yield "<span class=filter role=group aria-label='show only images in these states'>"
    for state in sorted(states, key=rank_of):
        yield f"<button type=button aria-pressed=false value={state}>{badge(state, f'{state} {states[state]:,}')}</button>"
    options = {"worst": "worst first", "name": "by name", "images": "most images", "disk": "most on disk"}
    listed = "".join(f"<option value={value}>{words}</option>" for value, words in options.items())
    yield f"</span><label>sort <select>{listed}</select></label>"
    yield "<button type=button class=all>open all</button><output></output></form>"


def _keys() -> Iterator[str]:
    yield "<p class=keys hidden><kbd>/</kbd> search <kbd>j</kbd> <kbd>k</kbd> next, previous <kbd>n</kbd> next that is wrong "
    yield "<kbd>Enter</kbd> open, close <kbd>Esc</kbd> show all</p>"


def _parts(families: Sequence[Family], seen: Overview, places: Places) -> Iterator[str]:
    if not families:
        yield "<p class=faint>No images.</p>"
    if seen.tree.hidden_machines:
        yield f"<p class=faint>{text(hidden_in_words(seen.tree.hidden_machines))}</p>"
    largest = max((node.disk_size for node in seen.tree.nodes), default=0) or 1
    shared = _Shared(places, Paper(_ROOM_FOR_STRIPS), largest, seen.tree.hidden_machines)
    opened = len(families) if len(seen.tree.nodes) <= _FEW_IMAGES else _OPEN_FAMILIES
    for severity, title in _PARTS.items():
        mine = [family for family in families if family.severity is severity]
        if not mine:
            continue
        yield f"<section class=part><h2>{title} <small>{len(mine):,}</small></h2>"
        if any(drift.hits for family in mine for drift in family.drifts):
            yield f"<p class=faint>{_LEGEND}</p>"
        for number, family in enumerate(mine):
            is_open = number < opened and (severity is Severity.BAD or opened == len(families))
            yield from _family(family, shared, is_open=is_open)
        yield "</section>"


def _family(family: Family, shared: _Shared, *, is_open: bool) -> Iterator[str]:
    places = shared.places
    title = "images that stand alone" if family.title is None else places.shown(family.title)
    running = sum(bool(member.node.machines) for member in family.members)
    facts = [*([f"{running:,} run now"] if running else []), count_of(len(family.members), "image"), human_size(family.disk_size)]
    data = f'data-name="{title}" data-images={len(family.members)} data-disk={family.disk_size}'
    yield f'<details class="family {family.severity}" id={anchor(family.title)} {data}{" open" if is_open else ""}>'
    missing = family.title is not None and all(member.node.image.filename != family.title for member in family.members)
    yield f"<summary><h3 class=name>{title}{' <small>missing</small>' if missing else ''}</h3>"
    yield f"<span class=states>{badges(family.states)}</span><span class=faint>{', '.join(facts)}</span></summary>"
    yield from of_family(family, places)
    states = {member.node.image.filename: member.node.status.value for member in family.members}
    for drift in family.drifts:
        yield from change_of(drift, states[os.fspath(drift.path)], places, shared.paper)
    yield from images_of(family, shared.largest, places, shared.hidden_machines)
    yield "</details>"
