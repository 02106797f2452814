"""raw: the guest's bytes as they are. Holes of the host file read as zeros."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from cowherd import extents as ext
from cowherd.extents import Extents
from cowherd.formats.layer import ENDLESS, BackingReference, Below, ClosingLayer
from cowherd.storage.copying import Bytes, put
from cowherd.storage.hostfile import HostFile

SECTOR = 512
_ZEROS = memoryview(bytes(1 << 20))


class Raw(ClosingLayer):
    """A raw image: a regular file or a block device; see `cowherd.formats.layer.Layer`.

    The virtual size is the file's length, rounded up to a sector, as QEMU does; what a file lacks of its last sector reads as
    zeros.
    """

    format = "raw"
    granularity = 1

    def __init__(self, file: HostFile):
        self.file = file
        self._length = file.size()

    @property
    def size(self) -> int:
        """Virtual size in bytes."""
        return -(-self._length // SECTOR) * SECTOR

    @property
    def backing(self) -> BackingReference | None:
        """None: raw images have no backing file."""
        return None

    def extents(self, start: int, length: int) -> Extents:
        """Returns data where the host file has data and zeros for its holes; a hole keeps its place as `host`."""
        end = start + length
        stored_end = min(end, self._length)
        rows: list[tuple[int, int, int, int, int]] = []
        position = start
        for data, hole in self.file.data_ranges(start, stored_end):
            if data > position:
                rows.append((position, data - position, position, 0, ext.ZERO))
            rows.append((data, hole - data, data, 0, ext.DATA))
            position = hole
        if position < end:
            rows.append((position, end - position, position, 0, ext.ZERO))
        return ext.merge(np.array(rows, ext.EXTENT))

    def empty_until(self, start: int) -> int:
        """Returns where the host file holds data again; see `Layer.empty_until`."""
        data = self.file.next_data(start)
        return ENDLESS if data is None else data

    def read_compressed(self, parts: Iterable[tuple[int, memoryview]]) -> None:
        """Never called: a raw image has no compressed clusters."""
        raise AssertionError("a raw image has no compressed clusters")

    def write(self, start: int, data: Bytes, below: Below | None) -> None:
        """Writes guest bytes; see `Layer.write`."""
        put(self.file, start, data)
        self._length = max(self._length, start + len(data))

    def zero(self, start: int, length: int, below: Below | None, *, unmap: bool) -> None:
        """Makes a range read as zeros; see `Layer.zero`."""
        if not self.file.zero_range(start, length, unmap=unmap):
            for position in range(start, start + length, len(_ZEROS)):
                self.file.pwrite(position, _ZEROS[: min(len(_ZEROS), start + length - position)])

    def discard(self, start: int, length: int, below: Below | None) -> None:
        """Gives the space of a range back to the host where it can; see `Layer.discard`."""
        self.file.punch_hole(start, length)

    def flush(self) -> None:
        """Makes every completed request durable."""
        if self.file.writable:
            self.file.flush()

    def resize(self, size: int, below: Below | None = None, below_size: int = 0) -> None:
        """Sets the file's length. Raises `HostFileError` for a block device of another size."""
        self.file.truncate(size)
        self._length = size
