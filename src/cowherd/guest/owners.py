"""Who owns which bytes: what two owners claim at once, and what an owner holds and does not use."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from cowherd import extents
from cowherd.extents import Ranges
from cowherd.guest.chart import NO_RANGES, FileEntry
from cowherd.guest.source import Volume


def set_bits(bits: NDArray[np.bool_]) -> Ranges:
    """Returns the runs of True as (start, end) pairs of indexes."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], bits, [False])).astype(np.int8)))
    return edges.reshape(-1, 2).astype(np.int64)


def overlaps(pairs: Ranges) -> Ranges:
    """Returns the bytes that lie in more than one of (start, end) pairs; the pairs may come in any order."""
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    if len(pairs) < 2:
        return pairs[:0]
    # A pair overlaps whatever before it reaches farthest, which need not be its neighbour: a long pair may span many short ones.
    reach = np.maximum.accumulate(pairs[:, 1])[:-1]
    return extents.normalised(np.column_stack((pairs[1:, 0], np.minimum(reach, pairs[1:, 1]))))


def tails(files: Iterable[FileEntry], volume: Volume, first: int, cluster: int) -> Ranges:
    """Returns the guest bytes of files' last clusters that lie past the files' ends. Byte `first` of the volume begins a cluster.

    Returns nothing for a volume in several pieces, because a cluster may be torn between two of them.
    """
    last = np.array([entry.runs[-1, 1] + entry.runs[-1, 2] for entry in files if len(entry.runs)], np.int64)
    if len(volume.span) != 1 or not len(last):
        return NO_RANGES
    start = int(volume.span[0, 0]) + first
    ends = start + -(-(last - start) // cluster) * cluster
    return extents.normalised(np.column_stack((last, ends)))
