"""Which of a peer's configurations count, and which run again: not one that is clearly slower, or that ran out of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from bench.measure import Run
from bench.ratio import best

TRIALS = 2
"""In so many pairs every configuration runs that comes to its end."""

CLEARLY_SLOWER = 1.3
"""How many times the smallest median one may take to run in further pairs."""

Runs = Mapping[str, Sequence[Run]]
"""The runs of each configuration, by its label; one that was given up has fewer than the others."""


def contenders(runs: Runs) -> set[str]:
    """The labels of the configurations to run in the next pair. None if all ran out of time: once is enough then."""
    walls = _finished(runs)
    if not walls or _pairs(runs) < TRIALS:
        return set(walls)
    longest = CLEARLY_SLOWER * median(walls[best(walls)])
    return {label for label, each in walls.items() if median(each) <= longest}


def winner(runs: Runs) -> str:
    """The label of the configuration that counts: the best that ran in every pair. If none did, all were stopped."""
    return best(_finished(runs) or {label: [run.durable for run in each] for label, each in runs.items()})


def _finished(runs: Runs) -> dict[str, list[float]]:
    """The seconds (durable) of the configurations that ran in every pair and were never stopped."""
    pairs = _pairs(runs)
    complete = {label: each for label, each in runs.items() if len(each) == pairs and not each[-1].stopped}
    return {label: [run.durable for run in each] for label, each in complete.items()}


def _pairs(runs: Runs) -> int:
    return max(map(len, runs.values()))
