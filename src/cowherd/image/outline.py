"""The outline of a chain: the layers of an image and its backing files laid over each other, as `Disk` does it, without numpy.

For reading only, and only for chains of few tables; see `cowherd.formats.outline`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cowherd.formats.layer import ENDLESS
from cowherd.formats.outline import LayerOutline, NotPlain, RawOutline
from cowherd.formats.qcow2.outline import TableOutline
from cowherd.image.chain import READING, SHARED, open_chain
from cowherd.kinds import BACKING, COMPRESSED, DATA, NOWHERE, ZERO
from cowherd.storage.buffers import clear
from cowherd.storage.hostfile import HostFile

if TYPE_CHECKING:
    from cowherd.kinds import Row

_MOST_ENTRIES = 1 << 19
"""Table entries in a chain, beyond which importing numpy takes less time than doing without it."""
_MOST_LAYERS = 16
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
        """Returns a cover of [start, end) by the layers from depth `first` up to `last` (to the root by default).

        What they leave to layer `last` is BACKING, zeros if there is none; what lies past the end of a backing file is ZERO.
        Raises `NotPlain`, `HostFileError`.
        """
        if first == (len(self.layers) if last is None else last):
            return [(start, end - start, NOWHERE, first, BACKING)]
        layer, found = self.layers[first], []
        inside = min(end, max(start, layer.size))
        for row in layer.rows(start, inside) if inside > start else ():
            if row[4] == BACKING and first + 1 < len(self.layers):
                found += self.rows(row[0], row[0] + row[1], first + 1, last)
            else:
                found.append(row)
        if inside < end:
            found.append((inside, end - inside, NOWHERE, first, ZERO))
        return found

    def empty_until(self, start: int, last: int) -> int:
        """Returns the first guest byte at or after `start` that one of the top `last` layers may hold."""
        return min((layer.empty_until(start) for layer in self.layers[:last]), default=ENDLESS)

    def covers(self) -> Iterator[list[Row]]:
        """Yields rows that together cover the disk, some tables' worth at a time. Raises as `rows` does."""
        for start, end in windows([(self, len(self.layers))], self.size):
            yield self.rows(start, end)

    def read_rows(self, rows: Iterable[Row], buffer: memoryview) -> None:
        """Fills `buffer` with the bytes of rows, one behind the other. What is compressed comes last, all of a layer at once."""
        packed: dict[int, list[tuple[int, memoryview]]] = {}
        places: list[tuple[int, int, int]] = []
        done = 0
        for row in rows:
            start, length, _, depth, kind = row
            if kind == COMPRESSED:
                self.read(places, buffer[done - sum(place[2] for place in places) : done])
                packed.setdefault(depth, []).append((start, buffer[done : done + length]))
                places = []
            else:
                places.append((*place_of(row), length))
            done += length
        self.read(places, buffer[done - sum(place[2] for place in places) : done])
        for depth, parts in packed.items():
            layer = self.layers[depth]
            assert isinstance(layer, TableOutline)
            layer.read_compressed(parts)

    def read(self, places: Iterable[tuple[int, int, int]], buffer: memoryview) -> None:
        """Fills `buffer` with (host offset, depth, length) one behind the other; a host of `NOWHERE` is zeros.

        What lies together in a file is read at once.
        """
        done = begin = 0
        reading, place = -1, 0
        for host, depth, length in places:
            if depth == reading and host == place + done - begin:
                done += length
                continue
            self._fill(reading, place, buffer[begin:done])
            begin, reading, place = done, depth if host != NOWHERE else -1, host
            done += length
        self._fill(reading, place, buffer[begin:done])

    def _fill(self, depth: int, host: int, part: memoryview) -> None:
        if depth >= 0:
            self.layers[depth].file.preadinto(host, part)
        else:
            clear(part)

    def close(self) -> None:
        """Closes the files."""
        for layer in self.layers:
            layer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


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


def open_outline(
    path: str | os.PathLike[str], *, format: str | None = None, force_share: bool = False, compressed: bool = False
) -> Outline:
    """Opens a chain for reading, with the locks that `open_disk` takes for it. `compressed` clusters are told only if asked for.

    Raises `NotPlain` for a chain that only `open_disk` reads, and what that raises.
    """

    def make(file: HostFile, format: str) -> LayerOutline:
        return TableOutline(file, compressed=compressed) if format == "qcow2" else RawOutline(file)

    layers = open_chain(path, format, make, use=SHARED if force_share else READING)
    if len(layers) > _MOST_LAYERS or sum(layer.entries for layer in layers) > _MOST_ENTRIES:
        for layer in layers:
            layer.close()
        raise NotPlain
    return Outline(layers)
