"""What `cowherd serve --adopt-glance` says: one line for each image, those that do not fit last, and their numbers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from cowherd.cli.guard.output import Report
from cowherd.sizes import human_size
from cowherd.text import counted, printable

if TYPE_CHECKING:
    from cowherd.service.glance.report import Adopted, Outcome

_RESULTS = ("adopted", "recorded", "waiting", "known", "deleted", "failed")
_SAID = {
    "adopted": "adopted with content",
    "recorded": "adopted without any, as in Glance",
    "waiting": "adopted, of which the content could not be",
    "known": "known from before, and not changed",
    "deleted": "deleted here since, and not adopted again",
    "failed": "not adopted",
}


def adoption_report(adopted: Adopted) -> Report:
    """Returns what became of the images of a Glance, as text and as a document; exit code 4 if something does not fit."""
    images = sorted(adopted.images, key=lambda one: one.problem is not None)
    lines = [_line(one) for one in images]
    lines += [
        f"{one.result}  namespace {printable(one.namespace)}: {printable(one.problem)}"
        for one in adopted.namespaces
        if one.problem
    ]
    counts = Counter(str(one.result) for one in images)
    lines += [f"{counted(counts[result], 'image')} {_SAID[result]}" for result in _RESULTS if counts[result]]
    namespaces = Counter(str(one.result) for one in adopted.namespaces)
    lines.append(f"{counted(namespaces['adopted'], 'namespace')} of definitions adopted, {namespaces['known']} known from before")
    lines.append(f"{counted(adopted.problems, 'thing does', 'things do')} not fit" if adopted.problems else "everything fits")
    if adopted.is_dry:
        lines.append("nothing was changed (--dry-run)")
    return Report(_document(adopted), tuple(lines), exit_code=4 if adopted.problems else 0)


def _document(adopted: Adopted) -> dict[str, object]:
    return {
        "images": [one._asdict() for one in adopted.images],
        "namespaces": [one._asdict() for one in adopted.namespaces],
        "problems": adopted.problems,
        "dry_run": adopted.is_dry,
    }


def _line(one: Outcome) -> str:
    facts = [] if one.size is None else [human_size(one.size)]
    facts += [one.how] if one.how else []
    facts += [f"{one.status} in Glance"] if one.status != "active" else []
    text = f"{one.result}  {printable(one.image)}  {printable(one.name or '-')}"
    if facts:
        text += f": {', '.join(facts)}"
    return f"{text}: {printable(one.problem)}" if one.problem else text
