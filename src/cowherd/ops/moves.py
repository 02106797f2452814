"""Decides how the bytes of a plan move from a chain into another image: shared, copied by the kernel, or read and written.

Long runs of plain data never enter this process. The rest (short runs, compressed clusters, chunks over several files) is read
into memory, neighbours together.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from cowherd import extents as ext
from cowherd.extents import Extents
from cowherd.image.disk import Disk
from cowherd.ops.copying import CHUNK_BYTES
from cowherd.ops.plan import Plan
from cowherd.ops.side_by_side import chunks
from cowherd.storage.copying import FileRange, can_clone
from cowherd.storage.opening import require_host

_LEAST_SHARED = 64 << 10
_LEAST_COPIED = 256 << 10
_NEVER = 2**63 - 1
_PIECE_BYTES = 4 << 20
"""Bytes between two reports of progress."""


class Move(NamedTuple):
    """Guest bytes [start, end): a file holds them in one piece (`range`), or they are read (`held`), or they become zeros."""

    start: int
    end: int
    range: FileRange | None = None
    held: Extents | None = None


def moves(plan: Plan, above: Disk, target: Disk) -> Iterator[Move]:
    """Yields the moves of `plan` (of `commit.plan_commit`) in guest order, one window of tables at a time."""
    below = require_host(target.layers[0].file)
    files = [layer.data.host for layer in above.layers]
    means = [_Means(file.device == below.device, can_clone(file, below)) if file else _NONE for file in files]
    for batch in above.extents():
        start, end = int(batch["start"][0]), int(ext.ends(batch[-1:])[0])
        window = np.array([[start, end]], np.int64)
        zeros = (Move(first, last) for first, last in ext.intersect(plan.zero, window).tolist())
        copies = _copies(ext.restrict(batch, ext.intersect(plan.copy, window)), above, means)
        yield from heapq.merge(copies, zeros, key=attrgetter("start"))


class _Means(NamedTuple):
    """What a layer's file allows: `near`: it lies on the target's file system; `shares`: it can share blocks with the target."""

    near: bool
    shares: bool

    @property
    def least(self) -> int:
        """Bytes of the shortest run that is worth a system call of its own."""
        if not self.near:
            return _NEVER
        return _LEAST_SHARED if self.shares else _LEAST_COPIED


_NONE = _Means(near=False, shares=False)


def _copies(wanted: Extents, above: Disk, means: list[_Means]) -> Iterator[Move]:
    least = np.array([one.least for one in means])
    direct = (wanted["kind"] == ext.DATA) & (wanted["length"] >= least[wanted["depth"]])
    done = 0
    for index in np.flatnonzero(direct).tolist():
        yield from _readings(wanted[done:index])
        for start, length, host, depth, _ in ext.pieces(wanted[index : index + 1], _PIECE_BYTES):
            source = FileRange(require_host(above.layers[depth].data), host, length, shares=means[depth].shares)
            yield Move(start, start + length, range=source)
        done = index + 1
    yield from _readings(wanted[done:])


def _readings(wanted: Extents) -> Iterator[Move]:
    for start, end in chunks(ext.ranges_of(wanted), CHUNK_BYTES):
        yield Move(start, end, held=ext.clip(wanted, start, end))
