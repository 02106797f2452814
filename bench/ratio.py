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
class Comparison:
    """How cowherd's runs stand beside the peer's: ratios of the seconds until the command `ends` and until its result is
    `durable`, seconds that it takes `extra`, and how many times the seconds of the `limit` (None: that was not measured).
    """

    ends: Spread
    durable: Spread
    extra: Spread
    limit: Spread | None = None


@dataclass(frozen=True)
class Target:
    """What a job is to reach, each at most; without any it is just reported.

    `ratio` of the durable times, or, where the machine allows no more, so many times the `limit`: one of them is enough. `ends`:
    ratio of the times until the commands end. `extra`: seconds over the peer. `seconds` in all. `peak`: bytes of memory.
    """

    ratio: float | None = None
    extra: float | None = None
    limit: float | None = None
    ends: float | None = None
    seconds: float | None = None
    peak: int | None = None

    def reached(self, found: Comparison, seconds: float, peak: int) -> bool | None:
        """Whether the middle of the pairs is at or under the target; None if there is none.

        `seconds` (durable) and `peak` are cowherd's.
        """
        either = _verdicts((found.durable, self.ratio), (found.limit, self.limit))
        each = _verdicts((found.ends, self.ends), (found.extra, self.extra), (seconds, self.seconds), (peak, self.peak))
        each += [any(either)] if either else []
        return all(each) if each else None

    def __str__(self) -> str:
        either = [_text("{:g}", self.ratio), _text("{:g} of the limit", self.limit)]
        each = [
            " or ".join(filter(None, either)),
            _text("as it ends {:g}", self.ends),
            _text("+{:g} ms", self.extra, 1000),
            _text("{:g} ms", self.seconds, 1000),
            _text("{:g} MiB", self.peak, 1 / (1 << 20)),
        ]
        return ", ".join(filter(None, each)) or "report"


def _text(form: str, wanted: float | None, unit: float = 1) -> str:
    return "" if wanted is None else form.format(wanted * unit)


def _verdicts(*found_and_wanted: tuple[Spread | float | None, float | None]) -> list[bool]:
    """Whether each figure is small enough, of those that are wanted and were measured."""
    pairs = [(found, wanted) for found, wanted in found_and_wanted if found is not None and wanted is not None]
    return [(found.middle if isinstance(found, Spread) else found) <= wanted for found, wanted in pairs]


def spread(figures: Sequence[float]) -> Spread:
    """The spread of one or more figures."""
    return Spread(min(figures), median(figures), max(figures))


def best(seconds: Mapping[str, Sequence[float]]) -> str:
    """The label of the configuration with the smallest median time."""
    return min(seconds, key=lambda label: median(seconds[label]))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """The spread of ours / theirs, pair by pair. Both hold a figure for each pair."""
    return spread([our / their for our, their in zip(ours, theirs, strict=True)])


def differences(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """The spread of ours - theirs, pair by pair."""
    return spread([our - their for our, their in zip(ours, theirs, strict=True)])
