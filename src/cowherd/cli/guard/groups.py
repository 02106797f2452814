"""Says what is true of many images once, with all their names."""

from __future__ import annotations

import re
from itertools import chain

from cowherd.sizes import human_size
from cowherd.text import command_line, counted
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence
    from typing import TypeVar

    Item = TypeVar("Item")

_FEWEST_IN_A_RUN = 3
_LISTED = 4
_NUMBERED = re.compile(r"(?P<before>.*?)(?P<number>\d+)(?P<after>[^\d]*(?:\.\w*)?)")


def alike(items: Iterable[Item], key: Callable[[Item], Hashable]) -> list[list[Item]]:
    """Returns the items in groups of equal `key`, in the order of the first of each."""
    found: dict[Hashable, list[Item]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return list(found.values())


def named(names: Sequence[str], most: int | None = _LISTED) -> str:
    """Returns names as one text: numbered ones as a shell expands them, "vm{01..29}.qcow2", and `most` of the others (all of
    them if it is None) with how many there are besides."""
    runs = _runs(names)
    told = [_braced(run) if len(run) > 1 else run[0] for run in runs[:most]]
    left = sum(map(len, runs[len(told) :]))
    return ", ".join(told) + (f" and {left} more" if left else "")


def expanded(names: Sequence[str]) -> list[str]:
    """Returns words that a shell (bash, zsh, ksh) reads as `names`: numbered ones as one word, which it expands."""
    return [
        _braced(run, lambda part: command_line([part]) if part else "") if len(run) > 1 else command_line(run)
        for run in _runs(names)
    ]


def _runs(names: Sequence[str]) -> list[list[str]]:
    """Returns the names, numbered ones that follow each other together if there are enough of them, each other one alone."""
    runs: list[list[str]] = []
    for name in names:
        if runs and _follows(runs[-1][-1], name):
            runs[-1].append(name)
        else:
            runs.append([name])
    return [*chain.from_iterable([run] if len(run) >= _FEWEST_IN_A_RUN else [[name] for name in run] for run in runs)]


def _follows(name: str, after: str) -> bool:
    one, other = _NUMBERED.fullmatch(name), _NUMBERED.fullmatch(after)
    if one is None or other is None or (one["before"], one["after"]) != (other["before"], other["after"]):
        return False
    return other["number"] == str(int(one["number"]) + 1).zfill(len(one["number"]))


def _braced(run: Sequence[str], quoted: Callable[[str], str] = str) -> str:
    first, last = _NUMBERED.fullmatch(run[0]), _NUMBERED.fullmatch(run[-1])
    assert first
    assert last
    return f"{quoted(first['before'])}{{{first['number']}..{last['number']}}}{quoted(first['after'])}"


class Amount(NamedTuple):
    """Bytes, as text, that are the same for all of some images."""

    size: str
    names: str


def amounts(sizes: Iterable[tuple[str, int]], most: int | None) -> list[Amount]:
    """Returns (name, bytes) with equal amounts together, largest first. After `most` groups one line stands for the rest."""
    groups = alike(sorted(sizes, key=lambda one: -one[1]), lambda one: human_size(one[1]))
    if most is None:
        return [Amount(human_size(size), name) for group in groups for name, size in group]
    told = [Amount(human_size(group[0][1]), named([name for name, _ in group])) for group in groups[:most]]
    rest = [one for group in groups[most:] for one in group]
    if rest:
        told.append(Amount(f"at most {human_size(rest[0][1])}", f"{counted(len(rest), 'other overlay')} (--all names them)"))
    return told
