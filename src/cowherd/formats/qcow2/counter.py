"""Counting references to host clusters, by runs of clusters and by single ones."""

from __future__ import annotations

import numpy as np

from cowherd.formats.qcow2.refcounts import Counts
from cowherd.formats.qcow2.runs import Integers

MOST_OVERFLOWS = 10_000
"""How many of the references that a refcount has no room for are kept by cluster; all of them are counted."""
_LONG_RUN = 64


class Counter:
    """The counts of host clusters, each at most what a refcount can hold.

    `clusters` is the number of clusters in the file (one more if something ends behind the last one), `used` the number up to the
    last one counted. `overflows` is the number of references that had no room, `overflowed` lists their clusters.
    """

    def __init__(self, clusters: int, refcount_bits: int):
        # One more than the file has: what begins in its last cluster, but not at its start, ends behind it.
        self.counts: Counts = np.zeros(clusters + 1, f"u{max(1, refcount_bits // 8)}")
        self.clusters = clusters
        self.used = 0
        self.maximum = (1 << refcount_bits) - 1
        self.overflows = 0
        self.overflowed: list[int] = []

    def add(self, first: Integers, number: Integers, times: Integers) -> None:
        """Counts runs of `number` clusters from cluster `first` on, each `times` times."""
        some = np.flatnonzero((number > 0) & (times > 0))
        if not len(some):
            return
        first, number, times = first[some], number[some], times[some]
        self.used = max(self.used, int((first + number).max()))
        self.clusters = max(self.clusters, self.used)
        long = number >= _LONG_RUN
        for start, length, often in np.column_stack((first, number, times))[long].tolist():
            self._add_run(start, start + length, often)
        if not long.all():
            self._add_scattered(first[~long], number[~long], times[~long])

    def add_one(self, first: int, number: int) -> None:
        """Counts one run once."""
        self.add(np.array([first]), np.array([number]), np.ones(1, np.int64))

    def _add_run(self, start: int, end: int, times: int) -> None:
        part = self.counts[start:end]
        if int(part.max()) + times <= self.maximum:
            part += part.dtype.type(times)
        else:
            self._saturate(np.arange(start, end), np.full(end - start, times))

    def _add_scattered(self, first: Integers, number: Integers, times: Integers) -> None:
        clusters, often = expand(first, number), np.repeat(times, number)
        if (often == often[0]).all():
            clusters, seen = np.unique(clusters, return_counts=True)
            seen = seen * often[0]
        else:
            clusters, inverse = np.unique(clusters, return_inverse=True)
            seen = np.bincount(inverse, weights=often).astype(np.int64)
        if int(self.counts[clusters].max()) + int(seen.max()) <= self.maximum:
            self.counts[clusters] += seen.astype(self.counts.dtype)
        else:
            self._saturate(clusters, seen)

    def _saturate(self, clusters: Integers, times: Integers) -> None:
        wanted = self.counts[clusters].astype(np.int64) + times
        excess = np.maximum(wanted - self.maximum, 0)
        self.counts[clusters] = np.minimum(wanted, self.maximum).astype(self.counts.dtype)
        self.overflows += int(excess.sum())
        for cluster, often in zip(clusters[excess > 0].tolist(), excess[excess > 0].tolist(), strict=True):
            room = MOST_OVERFLOWS - len(self.overflowed)
            if room <= 0:
                break
            self.overflowed += [cluster] * min(often, room)


def expand(first: Integers, number: Integers) -> Integers:
    """Returns the members of runs of `number` integers, each from `first` on, in the order of the runs."""
    if not len(number) or int(number.max()) == 1:
        return np.repeat(first, number)
    before = np.cumsum(number) - number
    return np.repeat(first - before, number) + np.arange(int(number.sum()))


def rank(values: Integers) -> Integers:
    """Returns for each value how many equal ones come before it."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = np.searchsorted(ordered, ordered)
    out = np.empty(len(values), np.int64)
    out[order] = np.arange(len(values)) - first
    return out
