"""Says what is true of many images once, with all their names."""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from cowherd.sizes import human_size
from cowherd.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

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
    told = [text for text, _ in runs[:most]]
    left = sum(count for _, count in runs[len(told) :])
    return ", ".join(told) + (f" and {left} more" if left else "")


def _runs(names: Sequence[str]) -> list[tuple[str, int]]:
    """Returns texts for names, and how many names each stands for."""
    runs: list[list[str]] = []
    for name in names:
        if runs and _follows(runs[-1][-1], name):
            runs[-1].append(name)
        else:
            runs.append([name])
    told = ([(_braced(run), len(run))] if len(run) >= _FEWEST_IN_A_RUN else [(name, 1) for name in run] for run in runs)
    return [*chain.from_iterable(told)]


def _follows(name: str, after: str) -> bool:
    one, other = _NUMBERED.fullmatch(name), _NUMBERED.fullmatch(after)
    if one is None or other is None or (one["before"], one["after"]) != (other["before"], other["after"]):
        return False
    return other["number"] == str(int(one["number"]) + 1).zfill(len(one["number"]))


def _braced(run: Sequence[str]) -> str:
    first, last = _NUMBERED.fullmatch(run[0]), _NUMBERED.fullmatch(run[-1])
    assert first
    assert last
    return f"{first['before']}{{{first['number']}..{last['number']}}}{first['after']}"


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
