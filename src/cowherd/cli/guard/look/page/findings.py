"""The findings of the doctor: those of a family with their remedies, and all of them in a few lines with links."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.cli.guard.look.page.markup import Places, anchor
from cowherd.pages.markup import Severity, count_of, text
from cowherd.text import command_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cowherd.cli.guard.look.page.families import Family
    from cowherd.herd.doctor.finding import Finding

_LINKED = 12
_OPEN = 6
"""The number of findings of one family that are shown at first."""


def overall(families: Sequence[Family], others: Sequence[Finding], places: Places) -> Iterator[str]:
    """Yields a line for each kind of finding, with links to the families that have it; and `others`, which are about none."""
    kinds: dict[str, list[tuple[Finding, Family]]] = {}
    pairs = [(finding, family) for family in families for finding in family.findings]
    for pair in sorted(pairs, key=lambda pair: pair[0].rank):
        kinds.setdefault(pair[0].kind.value, []).append(pair)
    if not kinds and not others:
        yield "<p class=good><b></b>Nothing is wrong.</p>"
        return
    yield "<table class=kinds>"
    for kind, found in kinds.items():
        links = list(dict.fromkeys(f"<a href=#{anchor(family.title)}>{_title(family, places)}</a>" for _, family in found))
        more = f" and {len(links) - _LINKED:,} more" if len(links) > _LINKED else ""
        yield f"<tr><th scope=row class={_severity(found[0][0])}><b></b>{kind}</th><td>{len(found):,}</td>"
        yield f"<td class=name>{' '.join(links[:_LINKED])}{more}</td></tr>"
    yield "</table>"
    yield from listed(others, places)


def of_family(family: Family, places: Places) -> Iterator[str]:
    """Yields the findings of a family; where something is wrong, mere notes are closed at first."""
    notes = [finding for finding in family.findings if finding.kind.is_note]
    wrong = [finding for finding in family.findings if not finding.kind.is_note]
    yield from listed(wrong or notes, places)
    if wrong and notes:
        yield f"<details><summary>{count_of(len(notes), 'note')}</summary>"
        yield from listed(notes, places)
        yield "</details>"


def listed(findings: Iterable[Finding], places: Places) -> Iterator[str]:
    """Yields findings with their remedies; those that differ only in the image are said once."""
    alike: dict[tuple[str, str, tuple[str, ...]], list[Finding]] = {}
    for finding in findings:
        alike.setdefault((finding.kind.value, finding.detail, finding.remedy), []).append(finding)
    items = [_item(found, places) for found in alike.values()]
    if items:
        yield f"<ul class=findings>{''.join(items[:_OPEN])}</ul>"
    if len(items) > _OPEN:
        yield f"<details><summary>{len(items) - _OPEN:,} more</summary><ul class=findings>{''.join(items[_OPEN:])}</ul></details>"


def _item(found: Sequence[Finding], places: Places) -> str:
    first = found[0]
    names = " ".join(places.shown(finding.path) for finding in found[:_LINKED])
    more = f" and {len(found) - _LINKED:,} more" if len(found) > _LINKED else ""
    remedy = f"<code>{text(command_line(first.remedy))}</code>" if first.remedy else ""
    head = f"<span class={_severity(first)}><b></b>{first.kind.value}</span> <span class=name>{names}</span>{more}"
    return f"<li>{head}<p>{text(first.detail)}</p>{remedy}</li>"


def _severity(finding: Finding) -> Severity:
    return Severity.WARN if finding.kind.is_note else Severity.BAD


def _title(family: Family, places: Places) -> str:
    return "images that stand alone" if family.title is None else places.shown(family.title)
