"""The outline of a chain: the layers of an image and its backing files laid over each other, as `Disk` does it, without numpy.

For reading only, and only for chains of few tables; see `cowherd.formats.outline`.
"""

from __future__ import annotations

from heapq import heappop, heappush

from cowherd.formats import registry
from cowherd.formats.outline import NeedsArrays
from cowherd.image.chain import READING, SHARED, open_chain
from cowherd.kinds import BACKING, COMPRESSED, DATA, ENDLESS, NOWHERE, ZERO, cut
from cowherd.storage.buffers import clear

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from cowherd.formats.layer import LayerOutline
    from cowherd.kinds import Row
    from cowherd.storage.blocks import BlockFile
    from cowherd.urls import ImageName

_MOST_ENTRIES = 1 << 19
"""Table entries that lead anywhere, beyond which importing numpy takes less time than doing without it."""
_MOST_TABLE_BYTES = 256 << 20
"""Of which most may be empty, and passed over quickly."""
_MOST_ROWS = 1 << 17
"""Stretches of a whole disk beyond which importing numpy takes less time than doing without it."""
_WINDOW_UNITS = 1 << 15
_RAW_UNIT = 64 << 10


class Outline:
    """An open chain, for reading; a context manager. Several threads may read at once; `rows` belongs to one at a time."""

    def __init__(self, layers: Sequence[LayerOutline]):
        """Takes over `layers`, the image itself first."""
        self.layers = tuple(layers)
        for depth, layer in enumerate(layers):
            layer.depth = depth

    @property
    def size(self) -> int:
        """Virtual size in bytes."""
        return self.layers[0].size

    def rows(self, start: int, end: int, first: int = 0, last: int | None = None) -> list[Row]:
        """Returns a cover of [start, end) by the layers from depth `first` to before `last` (to the root by default).

        What they leave to layer `last` is BACKING, zeros if there is none; what lies past the end of a backing file is ZERO.
        Raises `NeedsArrays`, `HostFileError`.
        """
        found: list[Row] = []
        reach = end
        for layer in self.layers[first:last]:
            inside = min(reach, max(start, layer.size))
            held = layer.rows(start, inside) if inside > start else []
            stored = [row for row in held if row[4] != BACKING]
            found += stored
            if inside < reach:
                found.append((inside, reach - inside, NOWHERE, layer.depth, ZERO))
            reach = inside
            if len(stored) == len(held):
                break
        if sum(layer.entries_met for layer in self.layers) > _MOST_ENTRIES:
            raise NeedsArrays
        return laid_over(found, start, end, len(self.layers) if last is None else last)

    def empty_until(self, start: int, last: int) -> int:
        """Returns the first guest byte at or after `start` that one of the top `last` layers may hold."""
        return min((layer.empty_until(start) for layer in self.layers[:last]), default=ENDLESS)

    def all_rows(self, *kinds: int) -> list[Row]:
        """Returns the rows of the whole disk, of these kinds alone if any are named.

        Raises as `rows` does, and `NeedsArrays` for so many that they would take much memory.
        """
        found: list[Row] = []
        for start, end in windows([(self, len(self.layers))], self.size):
            found += [row for row in self.rows(start, end) if not kinds or row[4] in kinds]
            if len(found) > _MOST_ROWS:
                raise NeedsArrays
        return found

    def read_rows(self, rows: Iterable[Row], buffer: memoryview) -> None:
        """Fills `buffer` with the bytes of rows, one behind the other. What is compressed comes last, all of a layer at once."""
        packed: dict[int, list[tuple[int, memoryview]]] = {}
        places: list[tuple[int, int, int]] = []
        begin = done = 0  # of what `places` are for
        for row in rows:
            start, length, _, depth, kind = row
            if kind == COMPRESSED:
                self.read(places, buffer[begin:done])
                packed.setdefault(depth, []).append((start, buffer[done : done + length]))
                places, begin = [], done + length
            else:
                places.append((*place_of(row), length))
            done += length
        self.read(places, buffer[begin:done])
        for depth, parts in packed.items():
            self.layers[depth].read_compressed(parts)

    def read(self, places: Iterable[tuple[int, int, int]], buffer: memoryview) -> None:
        """Fills `buffer` with (host offset, depth, length) one behind the other; a host of `NOWHERE` is zeros.

        What lies together in a file is read at once.
        """
        parts: dict[int, list[tuple[int, memoryview]]] = {}
        done = begin = 0
        reading, place = -1, 0
        for host, depth, length in places:
            if depth == reading and host == place + done - begin:
                done += length
                continue
            _sort_out(parts, reading, place, buffer[begin:done])
            begin, reading, place = done, depth if host != NOWHERE else -1, host
            done += length
        _sort_out(parts, reading, place, buffer[begin:done])
        for depth, wanted in parts.items():
            self.layers[depth].file.gather(wanted)

    def close(self) -> None:
        """Closes the files."""
        for layer in self.layers:
            layer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _sort_out(parts: dict[int, list[tuple[int, memoryview]]], depth: int, host: int, part: memoryview) -> None:
    """Puts a part of a buffer to those that are filled from its layer's file; clears one of zeros."""
    if depth >= 0:
        parts.setdefault(depth, []).append((host, part))
    else:
        clear(part)


def laid_over(rows: list[Row], start: int, end: int, below: int) -> list[Row]:
    """Returns a cover of [start, end) by the rows of several layers, in any order: the topmost layer shows.

    Where there is none it is BACKING at depth `below`. The cost is one sort, however many layers there are.
    """
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


def windows(sides: Iterable[tuple[Outline, int]], end: int) -> Iterator[tuple[int, int]]:
    """Yields [start, stop) of guest ranges that cover [0, `end`), so small that the rows of each fit in memory.

    Of each outline only so many of its layers count, from the top. Where none stores anything a range may have any length.
    """
    counted = list(sides)
    layers = [layer for side, _ in counted for layer in side.layers]
    window = min(layer.granularity if layer.granularity > 1 else _RAW_UNIT for layer in layers) * _WINDOW_UNITS
    start = 0
    while start < end:
        empty = min(side.empty_until(start, last) for side, last in counted)
        stop = min(end, max(start // window + 1, empty // window) * window)
        yield start, stop
        start = stop


def place_of(row: Row) -> tuple[int, int]:
    """Returns the host offset and the depth at which the bytes of a row are read; the host is `NOWHERE` for zeros."""
    return (row[2], row[3]) if row[4] == DATA else (NOWHERE, 0)


def open_outline(path: ImageName, *, format: str | None = None, force_share: bool = False, compressed: bool = False) -> Outline:
    """Opens a chain for reading, with the locks that `open_disk` takes for it. `compressed` clusters are told only if asked for.

    Raises `NeedsArrays` for a chain that only `open_disk` reads, and what that raises.
    """

    def make(file: BlockFile, format: str) -> LayerOutline:
        return registry.named(format).outline(file, compressed=compressed)

    layers = open_chain(path, format, make, use=SHARED if force_share else READING)
    if sum(layer.table_bytes for layer in layers) > _MOST_TABLE_BYTES:
        for layer in layers:
            layer.close()
        raise NeedsArrays
    return Outline(layers)
