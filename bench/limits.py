"""How much time a row may take."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.measure import Run
from bench.peers import TRIALS


@dataclass(frozen=True)
class Limits:
    """`pairs` of a row at most, and fewer, but at least two, if they would take more than `row` seconds.

    A run of the peer is stopped after `run` seconds. None: there is no limit.
    """

    pairs: int
    run: float | None = None
    row: float | None = None

    def is_last(self, theirs: Mapping[str, Sequence[Run]], ours: Sequence[Run]) -> bool:
        """Whether the pair that comes after these runs is the last one: there is no time for one more like those before it."""
        pair = len(ours) + 1
        spent = sum(run.durable for run in itertools.chain(*theirs.values(), ours) if not run.stopped)
        enough = self.row is not None and pair >= TRIALS and spent / len(ours) * (pair + 1) > self.row
        return pair >= self.pairs or enough
