"""Two services' answers to the same requests, held against each other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tests.openstack.recorder.play import Answer

_ABSENT = "(absent)"
_LONGEST_SHOWN = 110


class Difference(NamedTuple):
    """One part of one answer that differs: `part` is status, header NAME, or a path into the body as in body.images.0.name."""

    title: str
    part: str
    glance: Any
    ours: Any


def differences(glance: Mapping[str, Answer], ours: Mapping[str, Answer]) -> list[Difference]:
    """Returns what differs, in the order of the requests. Answers that only one has differ as a whole.

    Where the status differs, nothing else of the answer is compared: it follows from the status.
    """
    found = []
    for title in dict.fromkeys([*glance, *ours]):
        theirs, mine = glance.get(title), ours.get(title)
        if theirs is None or mine is None:
            found.append(Difference(title, "answer", _or_absent(theirs), _or_absent(mine)))
        elif theirs["status"] != mine["status"]:
            found.append(Difference(title, "status", theirs["status"], mine["status"]))
        else:
            found.extend(Difference(title, *one) for one in _parts(theirs, mine))
    return found


def _or_absent(answer: Answer | None) -> Any:
    return _ABSENT if answer is None else answer["status"]


def _parts(glance: Answer, ours: Answer) -> Iterator[tuple[str, Any, Any]]:
    for key in sorted(glance["headers"].keys() | ours["headers"].keys()):
        theirs, mine = glance["headers"].get(key, _ABSENT), ours["headers"].get(key, _ABSENT)
        if theirs != mine:
            yield f"header {key}", theirs, mine
    yield from _within("body", glance["body"], ours["body"])


def _within(where: str, glance: Any, ours: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(glance, dict) and isinstance(ours, dict):
        for key in dict.fromkeys([*glance, *ours]):
            yield from _within(f"{where}.{key}", glance.get(key, _ABSENT), ours.get(key, _ABSENT))
    elif isinstance(glance, list) and isinstance(ours, list) and len(glance) == len(ours):
        for index, pair in enumerate(zip(glance, ours, strict=True)):
            yield from _within(f"{where}.{index}", *pair)
    elif glance != ours or type(glance) is not type(ours):
        yield where, glance, ours


def table(found: list[Difference]) -> str:
    """Returns the differences as lines to read: each request once, under it what differs."""
    lines, last = [], None
    for title, part, glance, ours in found:
        if title != last:
            lines.append(title)
        last = title
        lines.append(f"    {part}: Glance {_shown(glance)}, ours {_shown(ours)}")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) and value.startswith("(") else json.dumps(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
