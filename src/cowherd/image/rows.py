"""Lays rows, extents as plain integers (`cowherd.kinds.Row`), over each other, puts them side by side, cuts and locates them."""

from __future__ import annotations

from cowherd.kinds import BACKING, COMPRESSED, DATA, NOWHERE, cut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cowherd.kinds import Row
    from cowherd.storage.ahead import Stretch
    from cowherd.storage.hostfile import HostFile

Ranges = list[tuple[int, int]]
"""Guest bytes, as half-open [start, end) in ascending order."""


def laid_over(rows: list[Row], start: int, end: int, below: int) -> list[Row]:
    """Returns a cover of [start, end) by the rows of several layers, given in any order: the topmost layer shows.

    Where no layer has a row, the cover is BACKING at depth `below`. The cost is one sort, however many layers there are.
    """
    from heapq import heappop, heappush  # not needed for images without a backing file

    rows.sort()
    waiting: list[tuple[int, Row]] = []  # a heap: the topmost layer first
    found: list[Row] = []
    index, position = 0, start
    while position < end:
        while waiting and waiting[0][1][0] + waiting[0][1][1] <= position:
            heappop(waiting)
        depth, stop = (waiting[0][0], waiting[0][1][0] + waiting[0][1][1]) if waiting else (below + 1, end)
        while index < len(rows) and rows[index][0] < stop:
            row = rows[index]
            if row[0] > position and row[3] < depth:
                stop = row[0]
                break
            heappush(waiting, (row[3], row))
            index += 1
            if row[0] <= position and row[3] < depth:
                depth, stop = row[3], row[0] + row[1]
        if depth > below:
            found.append((position, stop - position, NOWHERE, below, BACKING))
        else:
            found.append(cut(waiting[0][1], position, stop))
        position = stop
    return found


def side_by_side(a: list[Row], b: list[Row]) -> Iterator[tuple[Row, Row]]:
    """Yields the rows of two covers of one range in pairs, cut at each other's borders."""
    first = second = 0
    while first < len(a):
        left, right = a[first], b[second]
        end, other_end = left[0] + left[1], right[0] + right[1]
        start, stop = max(left[0], right[0]), min(end, other_end)
        yield (
            left if left[0] == start and end == stop else cut(left, start, stop),
            right if right[0] == start and other_end == stop else cut(right, start, stop),
        )
        first, second = first + (end == stop), second + (other_end == stop)


class Clipping:
    """Cuts rows to ranges. Callers ask for the ranges in ascending order."""

    def __init__(self, rows: list[Row]):
        self._rows, self._index = rows, 0

    def inside(self, ranges: Ranges) -> list[Row]:
        """Returns the parts of the rows that lie in `ranges`, cut at the borders of the ranges."""
        rows, index = self._rows, self._index
        found: list[Row] = []
        for start, end in ranges:
            while index < len(rows) and rows[index][0] + rows[index][1] <= start:
                index += 1
            while index < len(rows) and rows[index][0] < end:
                row = rows[index]
                inside = row[0] >= start and row[0] + row[1] <= end
                found.append(row if inside else cut(row, start, end))
                if row[0] + row[1] > end:
                    break
                index += 1
        self._index = index
        return found


def portions(ranges: Iterable[tuple[int, int]], most: int) -> Iterator[Ranges]:
    """Divides ranges into groups of `most` bytes each (the last may be smaller); cuts a range at a group's end."""
    part: Ranges = []
    room = most
    for start, end in ranges:
        while start < end:
            stop = min(end, start + room)
            part.append((start, stop))
            room -= stop - start
            start = stop
            if not room:
                yield part
                part, room = [], most
    if part:
        yield part


def stretches_in(files: Sequence[HostFile | None], rows: Sequence[Row]) -> Iterator[Stretch]:
    """Yields where `files`, one for each depth, hold rows that are plain data; None is a file on another host.

    Rows that follow each other in a file are one stretch, also across rows that are no plain data. A file of which compressed
    clusters are among the rows is left out: to have its plain ones read before them would only make it jump.
    """
    left_out = {row[3] for row in rows if row[4] == COMPRESSED}
    begin = end = number = -1
    for _, size, host, depth, kind in rows:
        if kind != DATA or depth in left_out:
            continue
        if depth != number or host != end:
            yield from _stretch(files, number, begin, end)
            begin = end = host
            number = depth
        end += size
    yield from _stretch(files, number, begin, end)


def _stretch(files: Sequence[HostFile | None], number: int, begin: int, end: int) -> Iterator[Stretch]:
    file = files[number] if number >= 0 else None
    if file is not None:
        yield file, begin, end - begin
