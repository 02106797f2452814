"""The arithmetic of the comparison: the better configuration of a peer, pairwise ratios, and whether a target is reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Spread:
    """The smallest, middle and largest of some figures."""

    least: float
    middle: float
    most: float


@dataclass(frozen=True)
class Target:
    """What a job is to reach: a `ratio` of wall times, `extra` seconds over the peer at most, or (neither) just a report."""

    ratio: float | None = None
    extra: float | None = None

    def reached(self, ratio: Spread, extra: Spread) -> bool | None:
        """Whether the middle of the pairs is at or under the target; None if there is none."""
        if self.ratio is not None:
            return ratio.middle <= self.ratio
        return None if self.extra is None else extra.middle <= self.extra

    def __str__(self) -> str:
        if self.ratio is not None:
            return f"{self.ratio:g}"
        return "report" if self.extra is None else f"+{self.extra * 1000:g} ms"


def spread(figures: Sequence[float]) -> Spread:
    """The spread of one or more figures."""
    return Spread(min(figures), median(figures), max(figures))


def best(walls: Mapping[str, Sequence[float]]) -> str:
    """The label of the peer's configuration with the smallest median wall time."""
    return min(walls, key=lambda label: median(walls[label]))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """The spread of ours / theirs, pair by pair. Both hold a figure for each pair."""
    return spread([our / their for our, their in zip(ours, theirs, strict=True)])


def differences(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """The spread of ours - theirs, pair by pair."""
    return spread([our - their for our, their in zip(ours, theirs, strict=True)])
