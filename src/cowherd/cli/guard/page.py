"""Writes a herd as one HTML page without other files: lineage, disk use, health, and drift as pictures; light and dark."""

from __future__ import annotations

import html
import os
import shlex
from typing import TYPE_CHECKING

from cowherd.cli.guard.pictures import ROW, branches, strip
from cowherd.herd.machines.running import hidden_in_words, in_words
from cowherd.sizes import human_size
from cowherd.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cowherd.herd.report.overview import DriftPicture, Overview
    from cowherd.herd.report.tree import Node
    from cowherd.paths import PathName

_BAD = frozenset(
    (
        "missing-base",
        "merge-interrupted",
        "untrusted",
        "binding-mismatch",
        "replaced",
        "drifted",
        "unvouched",
        "touched",
        "unknown",
    )
)

_STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf7; --ink: #1d2021; --faint: #6b6f70; --line: #dcd9d0; --card: #ffffff;
  --good: #2e7d4f; --bad: #b3261e; --note: #9a6700; --bar: #5b7fa6; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181a; --ink: #e6e3dc; --faint: #9a9c99; --line: #33373a;
  --card: #1e2124; --good: #6cc08b; --bad: #f2867d; --note: #e0b25a; --bar: #7fa3cb; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2.25rem 0 .75rem; }
p { margin: .25rem 0; } .faint { color: var(--faint); }
.facts { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.25rem 0 0; padding: 0; list-style: none; }
.facts li { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem 1rem;
  min-width: 8rem; }
.facts b { display: block; font-size: 1.35rem; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .4rem .75rem; border-bottom: 1px solid var(--line); vertical-align: top;
  white-space: nowrap; }
tr:last-child td { border-bottom: 0; } th { font-weight: 600; color: var(--faint); } td.wide { white-space: normal; }
.name { font-family: ui-monospace, monospace; font-size: .9em; }
h3 { font-size: 1rem; margin: 1.25rem 0 0; }
.good { color: var(--good); } .bad { color: var(--bad); } .note { color: var(--note); }
.bar { display: inline-block; height: .6rem; background: var(--bar); border-radius: .15rem; min-width: 1px; }
code { display: block; margin-top: .25rem; font: .85em ui-monospace, monospace; overflow-wrap: anywhere; color: var(--faint); }
.tree td { height: var(--row); padding-block: 0; border: 0; vertical-align: middle; }
.tree td:first-child { padding-left: .5rem; } .tree .name { color: var(--ink); vertical-align: middle; }
.branch { display: inline-block; vertical-align: middle; margin-right: .35rem; }
.branch path { fill: none; stroke: var(--faint); stroke-width: 1.5; } .branch circle { fill: currentColor; }
.strip { display: block; width: 100%; height: 1.1rem; min-width: 16rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .25rem; }
.base .strip { height: 2.25rem; }
.strip rect { vector-effect: non-scaling-stroke; } .hit { fill: var(--bad); stroke: var(--bad); } .kept { fill: var(--good); }
.hits td { border: 0; padding-block: .15rem; vertical-align: middle; } .hits .wide { width: 100%; }
"""


def page(seen: Overview) -> str:
    """Returns the page. Names from outside are escaped; the page loads nothing and runs no script."""
    places = ", ".join(_text(place) for place in seen.tree.directories)
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>Herd: {places}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
        f"<h1>Herd</h1>\n<p class=name>{places}</p>\n<p class=faint>as it was at {_text(seen.made)}</p>",
        *_facts(seen),
        "<h2>Health</h2>",
        *_health(seen),
        "<h2>Lineage</h2>",
        *_lineage(seen),
        *_drifts(seen),
        "</body>\n</html>\n",
    ]
    return "\n".join(parts)


def _facts(seen: Overview) -> Iterator[str]:
    nodes, findings = seen.tree.nodes, seen.diagnosis.findings
    wrong = sum(not finding.kind.is_note for finding in findings)
    facts = [
        (str(len(nodes)), "images"),
        (str(sum(node.dependents > 0 for node in nodes)), "bases"),
        (str(sum(node.level is not None for node in nodes)), "sealed"),
        (human_size(sum(node.disk_size for node in nodes)), "on disk"),
        (str(wrong), "wrong"),
        (str(len(findings) - wrong), "notes"),
    ]
    running = sum(bool(node.machines) for node in nodes)
    facts += [(str(running), "run now")] if running else []
    yield "<ul class=facts>"
    for value, what in facts:
        yield f"<li><b{_class('bad' if what == 'wrong' and wrong else '')}>{_text(value)}</b>{what}</li>"
    yield "</ul>"


def _health(seen: Overview) -> Iterator[str]:
    findings = seen.diagnosis.findings
    if not findings:
        yield "<p class=good>Nothing is wrong.</p>"
        return
    yield "<div class=scroll><table><tr><th>finding</th><th>image</th><th>what, and what to do</th></tr>"
    for finding in findings:
        remedy = f"<code>{_text(shlex.join(finding.remedy))}</code>" if finding.remedy else ""
        kind = f"<td{_class('note' if finding.kind.is_note else 'bad')}>{_text(finding.kind.value)}</td>"
        name = f"<td class=name>{_place(finding.path, seen)}</td>"
        yield f"<tr>{kind}{name}<td class=wide>{_text(finding.detail)}{remedy}</td></tr>"
    yield "</table></div>"


def _lineage(seen: Overview) -> Iterator[str]:
    nodes = seen.tree.nodes
    if not nodes:
        yield "<p class=faint>No images.</p>"
        return
    largest = max(1, *(node.disk_size for node in nodes))
    yield f'<div class=scroll><table class=tree style="--row: {ROW}px"><tr><th>image</th><th>format</th><th>size</th>'
    yield "<th colspan=2>on disk</th><th>seal</th><th>status</th></tr>"
    for node, branch in zip(nodes, branches([node.depth for node in nodes]), strict=True):
        width = max(1, round(100 * node.disk_size / largest))
        status = node.status.value
        kind = "bad" if status in _BAD else "good" if status == "ok" else "faint"
        yield (
            f"<tr><td class={kind}>{branch}<span class=name>{_place(node.path, seen)}</span></td><td>{_text(node.format)}</td>"
            f"<td>{'?' if node.virtual_size is None else human_size(node.virtual_size)}</td><td>{human_size(node.disk_size)}</td>"
            f'<td><span class=bar style="width:{width}px"></span></td><td>{_text(node.level or "-")}</td>'
            f"<td class={kind}>{_text(status)}{_runs(node, seen)}</td></tr>"
        )
    yield "</table></div>"
    if seen.tree.hidden_machines:
        yield f"<p class=faint>{_text(hidden_in_words(seen.tree.hidden_machines))}</p>"


def _runs(node: Node, seen: Overview) -> str:
    runs = in_words(node.machines, node.running_overlays, node.dependents, hidden=seen.tree.hidden_machines)
    return f" <span class=note>{_text(runs)}</span>" if runs else ""


def _drifts(seen: Overview) -> Iterator[str]:
    if not seen.drifts:
        return
    yield "<h2>Drift</h2>"
    if any(drift.hits for drift in seen.drifts):
        yield "<p class=faint>Each strip is a whole disk, from its first byte to its last: where the base "
        yield "<span class=bad>changed</span>, where an overlay <span class=bad>sees the change</span>, "
        yield "and where it is <span class=good>shielded</span> by bytes of its own.</p>"
    for drift in seen.drifts:
        yield f"<h3 class=name>{_place(drift.path, seen)}</h3>"
        if drift.problem:
            yield f"<p class=bad>{_text(drift.problem)}</p>"
        elif not drift.changed:
            yield "<p class=good>Its content is as sealed; only its file was touched.</p>"
        else:
            total = sum(end - start for start, end in drift.changed)
            yield f"<p class=bad>{human_size(total)} of {human_size(drift.size)} changed, in {len(drift.changed)} range(s)</p>"
            yield from _strips(drift, seen)


def _strips(drift: DriftPicture, seen: Overview) -> Iterator[str]:
    """Yields the base's picture and below it those of its dependents, so that one place of the disk is one column."""
    name = _text(os.path.basename(drift.path))
    picture = strip(drift.size, [("hit", drift.changed)], f"where {name} changed")
    yield f"<div class=scroll><table class=hits><tr class=base><td class=name>{name}</td><td class=bad>changed</td>"
    yield f"<td class=wide>{picture}</td></tr>"
    for hit in drift.hits:
        label = f"where {_text(os.path.basename(hit.path))} sees the change"
        picture = strip(drift.size, [("kept", hit.shielded), ("hit", hit.exposed)], label)
        of = "" if hit.snapshot is None else f" (snapshot {_text(hit.snapshot)})"
        runs = in_words(hit.machines, 0, 0, hidden=0) if hit.verdict != "intact" else ""
        yield f"<tr><td class=name>{_place(hit.path, seen)}{of}</td><td class={'good' if hit.verdict == 'intact' else 'bad'}>"
        yield f"{_text(hit.verdict)} {_text(runs)}</td><td class=wide>{_text(hit.problem) if hit.problem else picture}</td></tr>"
    yield "</table></div>"


def _place(path: Path, seen: Overview) -> str:
    """Returns an image's name as HTML, without the directory if it is the only one of the page."""
    home = seen.tree.directories[0] if len(seen.tree.directories) == 1 else None
    return _text(path.relative_to(home) if home and path.is_relative_to(home) else path)


def _class(name: str) -> str:
    return f" class={name}" if name else ""


def _text(value: PathName) -> str:
    return html.escape(printable(value))
