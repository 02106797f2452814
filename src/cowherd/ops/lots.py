"""What a conversion does, in lots: guest ranges that are loaded, placed and written together, however many lie between them.

A lot costs the same for one range as for a hundred, so that scattered clusters cost what their bytes cost.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cowherd import extents as ext
from cowherd.extents import Extents, Ranges
from cowherd.ops.plan import plan_copy
from cowherd.ops.sinks import Sink
from cowherd.ops.sources import Concatenation
from cowherd.storage.copying import can_clone, clone_alignment

COPY, SHARE, TAKE, ZERO = range(4)
_SHARED_BYTES = 1 << 30
_TAKEN_BYTES = 32 << 20
_LEAST_TAKEN = 1 << 20
"""Bytes of the shortest run that the kernel copies by itself; shorter ones are read, and written together."""


class Lot(NamedTuple):
    """Guest ranges, in order. `means` is COPY, SHARE (the target gets the very blocks), TAKE (the kernel copies) or ZERO.

    `held` are the source's extents in them, without gaps unless a range reaches into the next window of tables; none for zeros.
    """

    means: int
    ranges: Ranges
    held: Extents

    @property
    def end(self) -> int:
        """The guest byte behind the last range."""
        return int(self.ranges[-1, 1])


def lot_bytes(alignment: int, least: int) -> int:
    """Returns how many bytes the largest lot to copy has: `least` or a little less, or one unit of `alignment` bytes."""
    return max(1, least // alignment) * alignment


def lots(source: Concatenation, sink: Sink, target: str | os.PathLike[str], size: int, *, overlay: bool) -> Iterator[Lot]:
    """Plans one batch of extents at a time, so that memory does not grow with the image; yields lots of up to `size` bytes.

    With `overlay` only what the source itself holds is copied. Lots come in guest order. A range that was widened to the target's
    alignment may reach into the next batch, whose plan then leaves it out.
    """
    sharable, takable = _sharable_depths(source, sink), _takable_depths(source, sink)
    done = 0
    for batch in source.extents(depth=1 if overlay else None):
        plan = plan_copy(target, batch, alignment=sink.alignment, limit=source.size, backing_is_zero=not overlay)
        before = np.array([[0, done]], np.int64)
        share = ext.subtract(_shares(batch, sink, sharable), before)
        take = ext.subtract(_long_runs(batch, sink.alignment, takable), ext.union(before, share))
        elsewhere = ext.union(before, ext.union(share, take))
        copy = ext.subtract(plan.copy, elsewhere)
        zero = ext.subtract(plan.zero, elsewhere) if sink.keeps_zeros else np.empty((0, 2), np.int64)
        for means, ranges in _in_order((copy, share, take, zero)):
            yield from _divided(means, ranges, batch, size)
            done = int(ranges[-1, 1])


def _in_order(parts: tuple[Ranges, ...]) -> Iterator[tuple[int, Ranges]]:
    """Yields all ranges in guest order, as many with the same means at once as follow each other."""
    joined = np.concatenate(parts)
    means = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    order = np.argsort(joined[:, 0], kind="stable")
    joined, means = joined[order], means[order]
    borders = [0, *(np.flatnonzero(np.diff(means)) + 1).tolist(), len(joined)]
    for begin, end in pairwise(borders):
        if begin < end:
            yield int(means[begin]), joined[begin:end]


def _divided(means: int, ranges: Ranges, batch: Extents, size: int) -> Iterator[Lot]:
    if means == ZERO:
        yield Lot(ZERO, ranges, batch[:0])
        return
    pieces, begins = ext.cut(ranges, {SHARE: _SHARED_BYTES, TAKE: lot_bytes(size, _TAKEN_BYTES)}.get(means, size))
    held = ext.restrict(batch, pieces)
    places = np.searchsorted(held["start"], pieces[begins, 0])
    borders = zip([*begins.tolist(), len(pieces)], [*places.tolist(), len(held)], strict=True)
    for (first, low), (last, high) in pairwise(borders):
        yield Lot(means, pieces[first:last], held[low:high])


def _sharable_depths(source: Concatenation, sink: Sink) -> list[int]:
    """Returns the depths at which every source's layer can share blocks with the target: none without reflink."""
    target = sink.sharing()
    if target is None or sink.alignment % clone_alignment(target):
        return []
    chains = source.layer_files()
    common = range(min(map(len, chains)))
    return [depth for depth in common if all(can_clone(files[depth], target) for files in chains)]


def _takable_depths(source: Concatenation, sink: Sink) -> list[int]:
    """Returns the depths at which the kernel copies long runs from every source's layer."""
    chains = source.layer_files()
    common = range(min(map(len, chains)))
    return [depth for depth in common if all(sink.takes_from(files[depth]) for files in chains)]


def _shares(batch: Extents, sink: Sink, depths: list[int]) -> Ranges:
    """Returns what of `batch` can be had by sharing blocks: plain data in layers at `depths`.

    It is made of whole units of the sink's alignment whose place in the source begins with a block.
    """
    target = sink.sharing()
    if target is None or not depths:
        return np.empty((0, 2), np.int64)
    first, end, host = _whole_units(batch, sink.alignment, depths)
    return ext.normalised(np.column_stack((first, end))[host % clone_alignment(target) == 0])


def _long_runs(batch: Extents, alignment: int, depths: list[int]) -> Ranges:
    """Returns the long runs of plain data in layers at `depths`, as whole units of `alignment` bytes."""
    if not depths:
        return np.empty((0, 2), np.int64)
    first, end, _ = _whole_units(batch, alignment, depths)
    return ext.normalised(np.column_stack((first, end))[end - first >= _LEAST_TAKEN])


def _whole_units(batch: Extents, alignment: int, depths: list[int]) -> tuple[NDArray[np.int64], ...]:
    """Returns where the whole units in each extent of data at `depths` begin and end, and the host offset of their beginning."""
    data = ext.of_kind(batch, ext.DATA)
    data = data[np.isin(data["depth"], depths)]
    first = -(-data["start"] // alignment) * alignment
    return first, ext.ends(data) // alignment * alignment, data["host"] + first - data["start"]
