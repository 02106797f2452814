"""Divides a conversion into batches: guest ranges that are loaded, placed and written together, even if they lie far apart.

A batch costs about the same for one range as for a hundred, so scattered clusters cost no more than their bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter

from cowherd import kinds
from cowherd.image.rows import Clipping, portions
from cowherd.storage.copying import can_clone, clone_alignment
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.image.rows import Ranges
    from cowherd.kinds import Row
    from cowherd.ops.convert.sink import Sink
    from cowherd.ops.convert.sources import Source

COPY, REFLINK, KERNEL_COPY, ZERO = range(4)
_SHARED_BYTES = 1 << 30
_TAKEN_BYTES = 32 << 20
_LEAST_TAKEN = 1 << 20
"""Bytes of the shortest run that the kernel copies by itself; shorter runs are read, and written together."""


class Batch(NamedTuple):
    """Guest ranges, in order. `means` is COPY, REFLINK (the target gets the same blocks), KERNEL_COPY or ZERO.

    `held` are the source's rows that cover them; none for zeros.
    """

    means: int
    ranges: Ranges
    held: list[Row]

    @property
    def end(self) -> int:
        """The guest byte after the last range."""
        return self.ranges[-1][1]

    @property
    def bytes(self) -> int:
        """Number of bytes in all ranges together."""
        return sum(end - start for start, end in self.ranges)


def lot_bytes(alignment: int, least: int) -> int:
    """Returns the bytes of the largest batch: `least` rounded down to units of `alignment` bytes, but at least one unit."""
    return max(1, least // alignment) * alignment


def batches(source: Source, sink: Sink, size: int, *, overlay: bool) -> Iterator[Batch]:
    """Yields batches of up to `size` bytes in guest order, which together give the target what the source shows.

    With `overlay`, they leave out the bytes that the source leaves to its backing file; without it, these become zeros. Few rows
    are in memory at once.
    """
    planner = _Planner(source, sink, overlay=overlay)
    most = {COPY: size, REFLINK: _SHARED_BYTES, KERNEL_COPY: lot_bytes(size, _TAKEN_BYTES)}
    for rows in _whole_units(source.rows(), sink.alignment):
        clipping = Clipping(rows)
        for means, stretches in groupby(planner.stretches(rows), key=itemgetter(0)):
            ranges = [(start, end) for _, start, end in stretches]
            if means == ZERO:
                yield Batch(ZERO, ranges, [])
            else:
                yield from (Batch(means, part, clipping.inside(part)) for part in portions(ranges, most[means]))


class _Planner:
    """Decides by which means the bytes of rows are moved into the target."""

    def __init__(self, source: Source, sink: Sink, *, overlay: bool):
        self._alignment, self._limit = sink.alignment, source.size
        self._zeros: tuple[int, ...] = ()
        if sink.keeps_zeros:
            self._zeros = (kinds.ZERO,) if overlay else (kinds.ZERO, kinds.BACKING)
        files = [(number, file) for number, file in enumerate(source.files) if file is not None]
        target, self._block = sink.sharing(), 1
        self._sharable: set[int] = set()
        if target is not None and not sink.alignment % clone_alignment(target):
            self._block = clone_alignment(target)
            self._sharable = {number for number, file in files if can_clone(file, target)}
        self._takable = {number for number, file in files if sink.takes_from(file)}

    def stretches(self, rows: Iterable[Row]) -> list[tuple[int, int, int]]:
        """Returns (means, start, end) in order and without overlaps, for rows that cover whole units of the target's alignment.

        Ranges to copy are widened to whole units, up to the disk's end.
        """
        unit = self._alignment
        found = _Stretches()
        for start, length, host, number, kind in rows:
            end = start + length
            if kind in (kinds.DATA, kinds.COMPRESSED):
                first, last = -(-start // unit) * unit, end // unit * unit
                means = self._means_of_whole_units(last - first, host + first - start, number) if kind == kinds.DATA else COPY
                if means == COPY:
                    found.copy(start // unit * unit, min(-(-end // unit) * unit, self._limit))
                    continue
                if start < first:
                    found.copy(first - unit, first)
                found.add(means, first, last)
                if last < end:
                    found.copy(last, min(last + unit, self._limit))
            elif kind in self._zeros:
                found.zero(start, end)
        return found.found

    def _means_of_whole_units(self, length: int, host: int, number: int) -> int:
        """Returns the means for plain data in whole units: `length` bytes (0 or less: none) at `host` of file `number`."""
        if length > 0 and number in self._sharable and host % self._block == 0:
            return REFLINK
        return KERNEL_COPY if length >= _LEAST_TAKEN and number in self._takable else COPY


class _Stretches:
    """Stretches in ascending order. Those to copy join where they overlap or touch, and come before zeros."""

    def __init__(self) -> None:
        self.found: list[tuple[int, int, int]] = []

    def add(self, means: int, start: int, end: int) -> None:
        """Appends a stretch that overlaps none, and joins it with an adjacent one of the same means."""
        if self.found and self.found[-1][0] == means and self.found[-1][2] == start:
            start = self.found.pop()[1]
        self.found.append((means, start, end))

    def copy(self, start: int, end: int) -> None:
        """Appends a stretch to copy. It may overlap the last ones: it replaces zeros, and joins with one to copy."""
        while self.found and self.found[-1][0] == ZERO and self.found[-1][2] > start:
            _, first, _ = self.found.pop()
            if first < start:
                self.found.append((ZERO, first, start))
        if self.found and self.found[-1][0] == COPY and self.found[-1][2] >= start:
            _, start, last = self.found.pop()
            end = max(end, last)
        self.found.append((COPY, start, end))

    def zero(self, start: int, end: int) -> None:
        """Appends zeros, except for the part that a stretch to copy already covers."""
        if self.found:
            start = max(start, self.found[-1][2])
        if start < end:
            self.add(ZERO, start, end)


def _whole_units(batches: Iterable[list[Row]], unit: int) -> Iterator[list[Row]]:
    """Regroups contiguous rows: yields batches that end at multiples of `unit` bytes, except for the last."""
    rest: list[Row] = []
    for batch in batches:
        rows = rest + batch
        border = (rows[-1][0] + rows[-1][1]) // unit * unit
        rest = []
        while rows and rows[-1][0] + rows[-1][1] > border:
            row = rows.pop()
            rest.append(kinds.cut(row, max(row[0], border), row[0] + row[1]))
            if row[0] < border:
                rows.append(kinds.cut(row, row[0], border))
        rest.reverse()
        if rows:
            yield rows
    if rest:
        yield rest
