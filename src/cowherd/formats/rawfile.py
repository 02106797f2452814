"""The size of a raw image and where its file holds data, found without numpy."""

from __future__ import annotations

from cowherd.formats.reference import BackingReference
from cowherd.kinds import DATA, ENDLESS, ZERO
from cowherd.sizes import SECTOR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cowherd.kinds import Row
    from cowherd.storage.blocks import BlockFile


class RawFile:
    """A regular file or a block device as a disk.

    The virtual size is the file's length, rounded up to a whole sector, as in QEMU; what the file lacks of its last sector
    reads as zeros.
    """

    format = "raw"
    granularity = 1

    def __init__(self, file: BlockFile):
        self.file = file
        self._length = file.size()

    @property
    def data(self) -> BlockFile:
        """The file itself; see `Layer.data`."""
        return self.file

    @property
    def size(self) -> int:
        """Virtual size in bytes."""
        return -(-self._length // SECTOR) * SECTOR

    @property
    def backing(self) -> BackingReference | None:
        """None: raw images have no backing file."""
        return None

    def empty_until(self, start: int) -> int:
        """Returns where the host file next holds data, at or after `start`; see `Layer.empty_until`."""
        data = self.file.next_data(start)
        return ENDLESS if data is None else data

    def read_compressed(self, parts: Iterable[tuple[int, memoryview]]) -> None:
        """Never called: a raw image has no compressed clusters."""
        raise AssertionError("a raw image has no compressed clusters")

    def _cover(self, start: int, end: int, depth: int) -> list[Row]:
        """Returns data where the host file has data and zeros for its holes; a hole keeps its place as `host`."""
        rows: list[Row] = []
        position = start
        for data, hole in self.file.data_ranges(start, min(end, self._length)):
            if data > position:
                rows.append((position, data - position, position, depth, ZERO))
            rows.append((data, hole - data, data, depth, DATA))
            position = hole
        if position < end:
            rows.append((position, end - position, position, depth, ZERO))
        return rows
