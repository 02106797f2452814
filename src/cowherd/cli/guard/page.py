"""A herd as one HTML page that needs nothing else: lineage, disk use, health, and drift as pictures; light and dark."""

from __future__ import annotations

import html
import os
import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from cowherd.sizes import human_size
from cowherd.text import printable

if TYPE_CHECKING:
    from cowherd.herd.doctor.finding import Finding
    from cowherd.herd.overview import DriftPicture, Overview
    from cowherd.herd.tree import Node

_CELLS = 512
_BAD = frozenset(("missing-base", "binding-mismatch", "replaced", "drifted", "touched", "untrusted"))

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
.facts li { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem 1rem; min-width: 8rem; }
.facts b { display: block; font-size: 1.35rem; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .4rem .75rem; border-bottom: 1px solid var(--line); vertical-align: top;
  white-space: nowrap; }
tr:last-child td { border-bottom: 0; } th { font-weight: 600; color: var(--faint); } td.wide { white-space: normal; }
.name { font-family: ui-monospace, monospace; font-size: .9em; } .stem { color: var(--faint); white-space: pre; }
.good { color: var(--good); } .bad { color: var(--bad); } .note { color: var(--note); }
.bar { display: inline-block; height: .6rem; background: var(--bar); border-radius: .15rem; min-width: 1px; }
code { display: block; margin-top: .25rem; font: .85em ui-monospace, monospace; overflow-wrap: anywhere; color: var(--faint); }
svg { display: block; width: 100%; height: 2.25rem; border: 1px solid var(--line); border-radius: .25rem;
  background: var(--card); }
svg rect { fill: var(--bad); }
"""


def page(seen: Overview) -> str:
    """Returns the page. Names from outside are escaped; nothing in it is loaded from elsewhere, and no script runs."""
    places = ", ".join(_text(place) for place in seen.tree.directories)
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>Herd: {places}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
        f"<h1>Herd</h1>\n<p class=name>{places}</p>\n<p class=faint>as it was at {_text(seen.made)}</p>",
        *_facts(seen),
        "<h2>Health</h2>",
        *_health(seen.diagnosis.findings),
        "<h2>Lineage</h2>",
        *_lineage(seen.tree.nodes),
        *_drifts(seen.drifts),
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
    yield "<ul class=facts>"
    for value, what in facts:
        yield f"<li><b{_class('bad' if what == 'wrong' and wrong else '')}>{_text(value)}</b>{what}</li>"
    yield "</ul>"


def _health(findings: Sequence[Finding]) -> Iterator[str]:
    if not findings:
        yield "<p class=good>Nothing is wrong.</p>"
        return
    yield "<div class=scroll><table><tr><th>finding</th><th>image</th><th>what, and what to do</th></tr>"
    for finding in findings:
        remedy = f"<code>{_text(shlex.join(finding.remedy))}</code>" if finding.remedy else ""
        kind = f"<td{_class('note' if finding.kind.is_note else 'bad')}>{_text(finding.kind.value)}</td>"
        yield f"<tr>{kind}<td class=name>{_text(finding.path)}</td><td class=wide>{_text(finding.detail)}{remedy}</td></tr>"
    yield "</table></div>"


def _lineage(nodes: Sequence[Node]) -> Iterator[str]:
    if not nodes:
        yield "<p class=faint>No images.</p>"
        return
    largest = max(1, *(node.disk_size for node in nodes))
    yield "<div class=scroll><table><tr><th>image</th><th>format</th><th>size</th><th colspan=2>on disk</th>"
    yield "<th>seal</th><th>status</th></tr>"
    for node in nodes:
        stem = f"<span class=stem>{'   ' * (node.depth - 1)}└─ </span>" if node.depth else ""
        width = max(1, round(100 * node.disk_size / largest))
        status = node.status.value
        yield (
            f"<tr><td class=name>{stem}{_text(node.path)}</td><td>{_text(node.format)}</td>"
            f"<td>{'?' if node.virtual_size is None else human_size(node.virtual_size)}</td><td>{human_size(node.disk_size)}</td>"
            f'<td><span class=bar style="width:{width}px"></span></td><td>{_text(node.level or "-")}</td>'
            f"<td{_class('bad' if status in _BAD else 'good' if status == 'ok' else 'faint')}>{_text(status)}</td></tr>"
        )
    yield "</table></div>"


def _drifts(drifts: Sequence[DriftPicture]) -> Iterator[str]:
    if not drifts:
        return
    yield "<h2>Drift</h2>"
    for drift in drifts:
        yield f"<p class=name>{_text(drift.path)}</p>"
        if drift.problem:
            yield f"<p class=bad>{_text(drift.problem)}</p>"
        elif not drift.changed:
            yield "<p class=good>Its content is as sealed; only its file was touched.</p>"
        else:
            total = sum(end - start for start, end in drift.changed)
            yield f"<p class=bad>{human_size(total)} of {human_size(drift.size)} changed, in {len(drift.changed)} range(s)</p>"
            yield _strip(drift)


def _strip(drift: DriftPicture) -> str:
    """Returns a picture of the whole disk from left to right, with what changed marked; nothing is too small to be seen."""
    cells = set()
    for start, end in drift.changed:
        cells |= set(range(start * _CELLS // drift.size, min(_CELLS, -(-end * _CELLS // drift.size))))
    marks = "".join(f'<rect x="{cell}" y="0" width="1" height="10"/>' for cell in sorted(cells))
    label = f"where {_text(os.path.basename(drift.path))} changed"
    return f'<svg viewBox="0 0 {_CELLS} 10" preserveAspectRatio="none" role="img" aria-label="{label}">{marks}</svg>'


def _class(name: str) -> str:
    return f" class={name}" if name else ""


def _text(value: str | os.PathLike[str]) -> str:
    return html.escape(printable(value))
