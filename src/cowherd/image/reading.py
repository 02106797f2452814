"""Reads an image with its chain: where the guest's bytes lie, as rows of plain integers, and the bytes themselves.

Importing numpy takes as long as reading 300 MiB. So a reading begins with outlines of the layers, which do without numpy. It goes
on with a disk once the tables are too many for outlines, or once it meets something that only the full readers understand.
"""

from __future__ import annotations

from cowherd.formats import registry
from cowherd.formats.outline import NeedsArrays
from cowherd.image.chain import READING, SHARED, open_chain
from cowherd.image.rows import laid_over, stretches_in
from cowherd.kinds import BACKING, COMPRESSED, DATA, ENDLESS, NOWHERE, ZERO
from cowherd.storage.buffers import clear
from cowherd.storage.opening import open_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from cowherd.formats.layer import Layer, LayerOutline
    from cowherd.image.disk import Disk
    from cowherd.kinds import Row
    from cowherd.storage.ahead import Stretch
    from cowherd.storage.blocks import BlockFile, Opener
    from cowherd.urls import ImageName, Url

_MOST_ENTRIES = 1 << 19
"""Number of non-empty table entries; beyond it, importing numpy takes less time than doing without."""
_MOST_TABLE_BYTES = 256 << 20
"""Bytes of tables; beyond it, a reading begins with a disk. Most of them may be empty, and are passed over quickly."""
_MOST_ROWS = 1 << 17
"""Number of rows returned; beyond it, importing numpy takes less time than doing without."""
_WINDOW_UNITS = 1 << 16
_RAW_UNIT = 64 << 10
_ZEROS = -1
_LATER = -2


class Reading:
    """An open chain, for reading; a context manager. Offsets and lengths are guest bytes.

    Several threads may `read` at once; only one thread at a time may use the other methods.
    """

    def __init__(self, layers: Sequence[LayerOutline]):
        """Takes over `layers`, the image itself first."""
        self._outlines = tuple(layers)
        self._disk: Disk | None = None
        self._rows_told = 0
        for depth, layer in enumerate(layers):
            layer.depth = depth

    @classmethod
    def of(cls, disk: Disk) -> Reading:
        """Makes a reading of an open disk. The disk may be written to between reads; closing either closes both."""
        reading = cls(())
        reading._disk = disk
        return reading

    @property
    def layers(self) -> Sequence[LayerOutline | Layer]:
        """The layers, the image itself first."""
        return self._outlines if self._disk is None else self._disk.layers

    @property
    def size(self) -> int:
        """Virtual size in bytes."""
        return self.layers[0].size

    @property
    def name(self) -> str | Url:
        """The name or address under which the image was opened."""
        return self.files[0].name

    @property
    def files(self) -> list[BlockFile]:
        """The file of each layer."""
        return [layer.file for layer in self.layers]

    def rows(self, start: int, end: int, first: int = 0, last: int | None = None) -> list[Row]:
        """Returns a cover of [start, end) by the layers from depth `first` to before `last` (to the root by default).

        Bytes that they leave to layer `last` are BACKING, which reads as zeros if there is no such layer; bytes past the end of a
        backing file are ZERO. At worst there is a row for each cluster: `windows` yields ranges that are small enough.
        Raises `HostFileError`, and `ImageFormatError` where a table breaks the specification.
        """
        bottom = len(self.layers) if last is None else last
        if self._disk is None:
            try:
                found = self._rows_of_outlines(start, end, first, bottom)
            except NeedsArrays:
                self.disk()
            else:
                self._count(found)
                return found
        rows: list[Row] = self.disk().cover(start, end, first, bottom).tolist()
        return rows

    def batches(self, *, depth: int | None = None) -> Iterator[list[Row]]:
        """Yields rows of the top `depth` layers (default: all) that cover the disk, in order. Raises what `rows` raises."""
        last = len(self.layers) if depth is None else min(depth, len(self.layers))
        for start, end in windows([(self, last)], self.size):
            yield self.rows(start, end, 0, last)

    def units_with_data(self, size: int) -> int | None:
        """Returns how many units of `size` bytes, counted from 0, hold data, where that is told faster than by `rows`; else None.

        Raises `HostFileError`.
        """
        if len(self._outlines) == 1 and self._disk is None and self._outlines[0].granularity == size:
            return self._outlines[0].units_with_data()
        return None

    def empty_until(self, start: int, last: int) -> int:
        """Returns the first guest byte at or after `start` that one of the top `last` layers may hold."""
        return min((layer.empty_until(start) for layer in self.layers[:last]), default=ENDLESS)

    def read(self, rows: Iterable[Row], buffer: memoryview) -> None:
        """Fills `buffer` with the bytes of `rows`, which are rows of this chain, one after the other.

        Bytes that lie together in a file are read at once. Compressed clusters come last, all those of a layer together.
        Raises `HostFileError`, and `ImageFormatError` for a compressed cluster that is damaged.
        """
        layers = self.layers  # taken once: another thread may switch to a disk meanwhile
        stored: dict[int, list[tuple[int, memoryview]]] = {}
        packed: dict[int, list[tuple[int, memoryview]]] = {}
        begin = done = place = 0
        source = _ZEROS
        for start, length, host, depth, kind in rows:
            if kind == DATA:
                if depth != source or host != place + done - begin:
                    _sort_out(stored, source, place, buffer[begin:done])
                    begin, source, place = done, depth, host
            else:
                wanted = _ZEROS
                if kind == COMPRESSED:
                    wanted = _LATER
                    packed.setdefault(depth, []).append((start, buffer[done : done + length]))
                if wanted != source:
                    _sort_out(stored, source, place, buffer[begin:done])
                    begin, source = done, wanted
            done += length
        _sort_out(stored, source, place, buffer[begin:done])
        for depth, parts in stored.items():
            layers[depth].data.gather(parts)
        for depth, parts in packed.items():
            layers[depth].read_compressed(parts)

    def stretches(self, rows: Sequence[Row]) -> Iterator[Stretch]:
        """Yields where files of this host hold `rows`, rows of this chain; see `stretches_in`."""
        return stretches_in([layer.data.host for layer in self.layers], rows)

    def disk(self) -> Disk:
        """Returns the chain as a disk, for callers that need arrays; both share open files. Raises what `open_disk` raises."""
        if self._disk is None:
            from cowherd.image.open import disk_of

            self._disk = disk_of([(layer.file, layer.format) for layer in self._outlines])
        return self._disk

    def close(self) -> None:
        """Closes the files."""
        for layer in self.layers:
            layer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _rows_of_outlines(self, start: int, end: int, first: int, last: int) -> list[Row]:
        found: list[Row] = []
        reach = end
        for layer in self._outlines[first:last]:
            inside = min(reach, max(start, layer.size))
            held = layer.rows(start, inside) if inside > start else []
            stored = [row for row in held if row[4] != BACKING]
            if inside == end and not found and (layer.depth == last - 1 or len(stored) == len(held)):
                return held  # nothing lies over it or shows through it
            found += stored
            if inside < reach:
                found.append((inside, reach - inside, NOWHERE, layer.depth, ZERO))
            reach = inside
            if len(stored) == len(held):
                break
        return laid_over(found, start, end, last - 1)

    def _count(self, rows: list[Row]) -> None:
        """Counts `rows`, and switches to a disk once that costs less."""
        self._rows_told += len(rows)
        if self._rows_told > _MOST_ROWS or sum(layer.entries_met for layer in self._outlines) > _MOST_ENTRIES:
            self.disk()


def _sort_out(parts: dict[int, list[tuple[int, memoryview]]], source: int, host: int, part: memoryview) -> None:
    """Adds `part` to those that the file of layer `source` fills; clears it if it is zeros; leaves it if it is filled later."""
    if source >= 0:
        parts.setdefault(source, []).append((host, part))
    elif source == _ZEROS:
        clear(part)


def windows(sides: Iterable[tuple[Reading, int]], end: int, start: int = 0) -> Iterator[tuple[int, int]]:
    """Yields [start, stop) of guest ranges that cover [`start`, `end`), so small that the rows of each fit in memory.

    Each of `sides` is a reading and how many of its layers count, from the top. Where none of these stores anything, a range may
    have any length.
    All borders but the first and the last are multiples of 32 MiB.
    """
    counted = list(sides)
    layers = [layer for side, _ in counted for layer in side.layers]
    window = min(layer.granularity if layer.granularity > 1 else _RAW_UNIT for layer in layers) * _WINDOW_UNITS
    while start < end:
        empty = min(side.empty_until(start, last) for side, last in counted)
        stop = min(end, max(start // window + 1, empty // window) * window)
        yield start, stop
        start = stop


def open_reading(
    path: ImageName, *, format: str | None = None, backing: bool = True, force_share: bool = False, opener: Opener = open_file
) -> Reading:
    """Opens an image and, if `backing`, the chain under it, for reading, with the locks and errors of `open_disk`."""
    use = (SHARED if force_share else READING)._replace(opener=opener)
    try:
        layers = open_chain(path, format, _outline, use=use, backing=backing)
    except NeedsArrays:
        from cowherd.image.open import open_disk

        return Reading.of(open_disk(path, format=format, backing=backing, force_share=force_share, opener=opener))
    reading = Reading(layers)
    if sum(layer.table_bytes for layer in layers) > _MOST_TABLE_BYTES:
        try:
            reading.disk()
        except BaseException:
            reading.close()
            raise
    return reading


def _outline(file: BlockFile, format: str) -> LayerOutline:
    return registry.named(format).outline(file)
