"""Adds to a command's report where the command has looked for overlays."""

from __future__ import annotations

from cowherd.cli.guard.output import Report
from cowherd.text import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cowherd.herd.lineage.book.notes import Look


def told(report: Report, looks: Sequence[Look]) -> Report:
    """Returns a report that also says where the command has looked: in full as JSON, as text only what was left out."""
    if not looks:
        return report
    searched = _each(directory for look in looks for directory in look.searched)
    known = _each(dependent for look in looks for dependent in look.dependents)
    passed_over = _each(place for look in looks for place in look.passed_over)
    document = {**report.document, "searched": searched, "known_dependents": known, "passed_over": passed_over}
    return report._replace(document=document, notes=(*report.notes, *_note(passed_over)))


def said_in_full(report: Report, looks: Sequence[Look], seconds: float) -> Report:
    """Returns a report with notes for --verbose: the places where the command has looked, and the time that it took."""
    from cowherd.cli.guard.groups import named

    searched = _each(directory for look in looks for directory in look.searched)
    known = _each(dependent for look in looks for dependent in look.dependents)
    places = (f"cowherd: looked for overlays in {named([shown(place) for place in searched], None)}",) if searched else ()
    found = (f"cowherd: found what depends on the image: {named([shown(path) for path in known], None)}",) if known else ()
    return report._replace(notes=(*report.notes, *places, *found, f"cowherd: took {seconds:.2f} s"))


def _note(passed_over: Sequence[str]) -> tuple[str, ...]:
    if not passed_over:
        return ()
    more = f" and {len(passed_over) - 1} more" if len(passed_over) > 1 else ""
    return (
        f"cowherd: overlays were not looked for everywhere around, not in {shown(passed_over[0])}{more}; "
        f"'cowherd herd add DIR' names a directory in which all are to be found",
    )


def _each(names: Iterable[str]) -> list[str]:
    return sorted(set(names))
