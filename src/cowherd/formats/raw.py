"""raw: the guest's bytes as they are. Holes of the host file read as zeros."""

from __future__ import annotations

import numpy as np

from cowherd import extents as ext
from cowherd.extents import Extents
from cowherd.formats.layer import Below
from cowherd.formats.rawfile import RawFile
from cowherd.formats.readable import ReadableLayer
from cowherd.storage.copying import Bytes, put


class Raw(RawFile, ReadableLayer):
    """A raw image; see `cowherd.formats.layer.Layer` and `RawFile`."""

    def extents(self, start: int, length: int) -> Extents:
        """Returns data where the host file has data and zeros for its holes; a hole keeps its place as `host`."""
        return ext.merge(np.array(self._cover(start, start + length, 0), ext.EXTENT))

    def extents_to_read(self, start: int, length: int) -> Extents:
        """Returns the whole range as data: holes read as zeros anyway, and finding them may take longer than reading them."""
        return ext.single(start, length, ext.DATA, host=start)

    def place(self, start: int, length: int) -> tuple[int, int] | None:
        """Returns the range itself; see `Layer.place`."""
        return start, ext.DATA

    def write(self, start: int, data: Bytes, below: Below | None) -> None:
        """Writes guest bytes; see `Layer.write`."""
        put(self.file, start, data)
        self._length = max(self._length, start + len(data))

    def zero(self, start: int, length: int, below: Below | None, *, unmap: bool) -> None:
        """Makes a range read as zeros; see `Layer.zero`."""
        self.file.write_zeros(start, length, unmap=unmap)

    def discard(self, start: int, length: int, below: Below | None) -> None:
        """Gives the space of a range back to the host if the host can; see `Layer.discard`."""
        self.file.punch_hole(start, length)

    def resize(self, size: int, below: Below | None = None, below_size: int = 0) -> None:
        """Sets the file's length. Raises `HostFileError` for a block device of another size."""
        self.file.truncate(size)
        self._length = size
