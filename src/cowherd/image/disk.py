"""A disk: what the guest sees of an image and the backing files under it."""

from __future__ import annotations

import warnings
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from cowherd import extents as ext
from cowherd.errors import InvalidRequest, ReadOnlyImage
from cowherd.image.rows import stretches_in
from cowherd.kinds import ENDLESS, Row
from cowherd.storage.buffers import clear
from cowherd.storage.copying import FileRange
from cowherd.storage.opening import require_host

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from cowherd.extents import Extents
    from cowherd.formats.layer import Below, Layer
    from cowherd.formats.reference import BackingReference
    from cowherd.storage.ahead import Stretch
    from cowherd.urls import Url

Buffer = bytes | bytearray | memoryview

_SMALL = 64 << 10
"""Bytes of requests that mostly lie in one run."""

_WINDOW_UNITS = 1 << 20
"""A batch of `Disk.extents` covers this many units of the layer with the smallest ones; at worst each is an extent."""


class Disk:
    """An open image with its chain; a context manager. `cowherd.open` makes it.

    Offsets and lengths are guest bytes. Several threads may read at once; writing, resizing and closing need the disk to
    themselves. Writes are durable after `flush` (or `close`).
    """

    def __init__(self, layers: Sequence[Layer], *, writable: bool):
        """Takes over `layers`, the image itself first, its backing file next, the root last."""
        self.layers = tuple(layers)
        self.writable = writable

    @property
    def name(self) -> str | Url:
        """The name or address under which the image was opened."""
        return self.layers[0].file.name

    @property
    def path(self) -> Path:
        """The path under which the image was opened. Raises `InvalidRequest` if the image is not a file of this host."""
        return require_host(self.layers[0].file).path

    @property
    def format(self) -> str:
        """The image's format."""
        return self.layers[0].format

    @property
    def size(self) -> int:
        """Virtual size in bytes."""
        return self.layers[0].size

    @property
    def backing_size(self) -> int:
        """Virtual size of the backing file, 0 without one."""
        return self.layers[1].size if len(self.layers) > 1 else 0

    def read(self, offset: int, length: int) -> bytes:
        """Returns `length` bytes. Raises `InvalidRequest` for a range that does not lie inside the disk."""
        self._require_inside(offset, length)  # before allocating that much memory
        buffer = bytearray(length)
        self.readinto(offset, buffer)
        return bytes(buffer)

    def readinto(self, offset: int, buffer: bytearray | memoryview) -> None:
        """Fills `buffer` from `offset` on. Raises `InvalidRequest` for a range that does not lie inside the disk."""
        view = memoryview(buffer).cast("B")
        self._require_inside(offset, len(view))
        self._read_from(0, offset, view)

    def read_padded(self, offset: int, buffer: memoryview) -> None:
        """Fills `buffer` from `offset` on; bytes past the disk's end are zeros."""
        inside = max(0, min(len(buffer), self.size - offset))
        if inside:
            self.readinto(offset, buffer[:inside])
        clear(buffer[inside:])

    def write(self, offset: int, data: Buffer | FileRange) -> None:
        """Writes `data` at `offset`. Raises `InvalidRequest` past the end, `ReadOnlyImage`, `HostFileError`."""
        view = data if isinstance(data, FileRange) else memoryview(data).cast("B")
        self._require_change(offset, len(view))
        self.layers[0].write(offset, view, self._below)

    def write_compressed(self, offset: int, data: Buffer) -> None:
        """Writes whole clusters compressed (the disk's last may be shorter). Raises `InvalidRequest` if the format can't."""
        view = memoryview(data).cast("B")
        self._require_change(offset, len(view))
        self.layers[0].write_compressed(offset, view, self._below)

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        """Makes a range read as zeros; with `unmap`, gives its space back if the format can."""
        self._require_change(offset, length)
        self.layers[0].zero(offset, length, self._below, unmap=unmap)

    def discard(self, offset: int, length: int) -> None:
        """Declares that a range's content is no longer needed.

        Whole clusters inside the range are given back and read as zeros; the rest may keep its content.
        """
        self._require_change(offset, length)
        self.layers[0].discard(offset, length, self._below)

    def flush(self) -> None:
        """Makes everything written so far durable."""
        self.layers[0].flush()

    def resize(self, size: int) -> None:
        """Changes the virtual size. Added bytes read as zeros; bytes that are cut off are lost."""
        if size < 0:
            raise InvalidRequest(f"a disk can't have {size} bytes")
        self._require_change(0, 0)
        self.layers[0].resize(size, self._below, self.backing_size)

    def extents(self, start: int = 0, length: int | None = None, *, depth: int | None = None) -> Iterator[Extents]:
        """Yields batches that together cover [start, start+length), in order (to the disk's end by default).

        Each extent says in which layer (`depth`, 0 is the image itself) its bytes lie. With `depth`, only that many layers count,
        from the top; bytes that none of them holds are of kind BACKING. Without `depth`, BACKING means that no layer holds the
        bytes: they read as zeros. Past the end of a backing file that is shorter than its overlay the extent is ZERO, at that
        backing file's depth.
        """
        end = self.size if length is None else start + length
        self._require_inside(start, end - start)
        layers = len(self.layers) if depth is None else min(depth, len(self.layers))
        window = self._window()
        while start < end:
            # A window may have any length where no layer stores anything: a disk may claim exabytes.
            empty = self.empty_until(start, depth=layers)
            stop = min(end, max(start // window + 1, empty // window) * window)
            yield self.cover(start, stop, 0, layers)
            start = stop

    def empty_until(self, start: int, *, depth: int | None = None) -> int:
        """Returns the first guest byte at or after `start` that one of the top `depth` layers (all by default) may hold.

        The result may lie past the disk's end.
        """
        return min((layer.empty_until(start) for layer in self.layers[:depth]), default=ENDLESS)

    def read_extents(self, batch: Extents, start: int, buffer: memoryview) -> None:
        """Fills `buffer`, whose first byte is guest byte `start`, with the bytes of `batch`: extents of this disk inside it.

        It is for callers that already have the extents. Bytes of `buffer` between the extents stay as they are.
        """
        rows = batch.tolist()
        self._read_each(rows, [buffer[position - start : position - start + length] for position, length, *_ in rows])

    def read_gathered(self, batch: Extents, buffer: memoryview) -> None:
        """Fills `buffer` with the bytes of `batch`, extents of this disk, one after the other: gaps are left out."""
        rows = batch.tolist()
        ends = accumulate(row[1] for row in rows)
        self._read_each(rows, [buffer[end - row[1] : end] for row, end in zip(rows, ends, strict=True)])

    def stretches(self, batch: Extents) -> Iterator[Stretch]:
        """Yields where files of this host hold `batch`, extents of this disk; see `stretches_in`."""
        return stretches_in([layer.data.host for layer in self.layers], batch.tolist())

    def _read_each(self, rows: Iterable[Row], views: Iterable[memoryview]) -> None:
        plain: dict[int, list[tuple[int, memoryview]]] = {}
        packed: dict[int, list[tuple[int, memoryview]]] = {}
        for (start, _, host, depth, kind), view in zip(rows, views, strict=True):
            if kind == ext.DATA:
                plain.setdefault(depth, []).append((host, view))
            elif kind == ext.COMPRESSED:
                packed.setdefault(depth, []).append((start, view))
            else:
                clear(view)
        for depth, parts in plain.items():
            self.layers[depth].data.gather(parts)
        for depth, parts in packed.items():
            self.layers[depth].read_compressed(parts)

    def set_backing(self, reference: BackingReference | None) -> None:
        """Names another backing file in the header; the disk shows it once it is opened again. Changes no data."""
        self._require_change(0, 0)
        self.layers[0].set_backing(reference)

    def close(self) -> None:
        """Makes everything durable and closes the chain. Closing twice is fine."""
        _close_all(self.layers)

    def __del__(self) -> None:
        # Writes must not be lost with a disk that was dropped without being closed.
        if self.writable and not self.layers[0].file.closed:
            warnings.warn(f"unclosed disk {self.path}", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def _below(self) -> Below | None:
        if len(self.layers) == 1:
            return None
        return self._read_below

    def _read_below(self, start: int, buffer: memoryview) -> None:
        self._read_from(1, start, buffer)

    def _read_from(self, first: int, start: int, buffer: memoryview) -> None:
        """Fills `buffer` with what the layers from `first` down show, zeros past their end."""
        inside = max(0, min(len(buffer), self.layers[first].size - start))
        if inside < len(buffer):
            clear(buffer[inside:])
        if inside and not (inside <= _SMALL and self._read_run(first, start, buffer[:inside])):
            cover = self.cover(start, start + inside, first, len(self.layers), to_read=True)
            self.read_extents(cover, start, buffer[:inside])

    def _read_run(self, first: int, start: int, buffer: memoryview) -> bool:
        """Fills `buffer` if all of it lies in one run of one layer, as a guest's small requests do; else returns False.

        Arrays of single rows would take most of the time of such a request.
        """
        for layer in self.layers[first:]:
            if start + len(buffer) > layer.size or (place := layer.place(start, len(buffer))) is None:
                return False
            host, kind = place
            if kind == ext.DATA:
                layer.data.preadinto(host, buffer)
                return True
            if kind == ext.ZERO:
                break
        clear(buffer)
        return True

    def cover(self, start: int, end: int, first: int, last: int, *, to_read: bool = False) -> Extents:
        """Lays the extents of layers [first, last) over each other for the window [start, end) of guest bytes.

        It does the work of `extents` in one batch, so at worst it returns an extent for each cluster. With `to_read`, it does not
        look for the holes of a raw file: they read as zeros anyway, and on some file systems the search takes longer than the
        reading.
        """
        parts: list[Extents] = []
        reach, held = end, 0
        for depth in range(first, last):
            layer = self.layers[depth]
            inside = min(reach, max(start, layer.size))
            found = _held(layer, depth, start, inside, to_read=to_read, whole=depth == last - 1)
            if inside < reach:  # past the end of this layer no deeper one shows
                found = np.concatenate((found, ext.single(inside, reach - inside, ext.ZERO, depth=depth)))
                reach = inside
            if depth == last - 1 and not parts:
                return found
            if not len(found):
                continue
            parts.append(found)
            held += int(found["length"].sum())
            if held >= end - start and depth < last - 1:  # the parts may cover everything
                parts = [_stored(ext.laid_over(parts, start, end, last - 1))]
                held = int(parts[0]["length"].sum())
                if held == end - start:
                    return parts[0]
        return ext.laid_over(parts, start, end, last - 1)

    def _window(self) -> int:
        smallest = min(layer.granularity if layer.granularity > 1 else 65536 for layer in self.layers)
        return smallest * _WINDOW_UNITS

    def _require_change(self, offset: int, length: int) -> None:
        if not self.writable:
            raise ReadOnlyImage(self.name)
        self._require_inside(offset, length)

    def _require_inside(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise InvalidRequest(f"bytes {offset} to {offset + length} do not lie inside the {self.size} bytes of {self.name}")


def _held(layer: Layer, depth: int, start: int, end: int, *, to_read: bool, whole: bool) -> Extents:
    """Returns the extents that a layer itself holds in [start, end); with `whole`, also those that it leaves to deeper layers.

    With `to_read`, all of a raw layer counts as data.
    """
    if start == end:
        return np.empty(0, ext.EXTENT)
    found = (layer.extents_to_read if to_read else layer.extents)(start, end - start)
    held = found.copy() if whole else _stored(found)
    held["depth"] = depth
    return held


def _stored(found: Extents) -> Extents:
    """Returns the extents that the layer does not leave to deeper ones."""
    stored: Extents = found[found["kind"] != ext.BACKING]
    return stored


def _close_all(layers: Sequence[Layer]) -> None:
    """Closes every layer, even if closing one of them fails; raises the last failure, with earlier ones as its context."""
    if layers:
        try:
            layers[0].close()
        finally:
            _close_all(layers[1:])
