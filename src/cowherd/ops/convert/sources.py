"""What a conversion reads: one disk, or several one behind the other, or the outline of an image of few tables.

Rows (`cowherd.kinds.Row`) say where bytes lie; their `depth` is a number in the source's `files`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from cowherd.kinds import BACKING
from cowherd.storage.copying import FileRange, FileRanges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cowherd.image.disk import Disk
    from cowherd.image.outline import Outline
    from cowherd.kinds import Row
    from cowherd.storage.hostfile import HostFile

_ROWS_AT_ONCE = 1 << 16
"""A row takes some 200 bytes."""

Ranges = list[tuple[int, int]]
"""Guest bytes, as half-open [start, end) in ascending order."""


class Source(ABC):
    """Guest bytes to copy. Several threads may read at once; `rows` belongs to one."""

    size: int
    files: list[HostFile | None]
    """The files of this host in which its bytes lie, None for what lies elsewhere."""

    @abstractmethod
    def rows(self) -> Iterator[list[Row]]:
        """Yields rows, in order, that cover all of it."""

    @abstractmethod
    def read(self, ranges: Ranges, held: list[Row], buffer: memoryview) -> None:
        """Fills `buffer` with the bytes of `ranges`, one behind the other; `held` are the rows in them."""

    def stored(self, held: list[Row], *, shares: bool) -> FileRanges:
        """Returns where files hold the rows `held`, all of plain data; with `shares` blocks are to be shared."""
        ranges = []
        for _, size, host, number, _ in held:
            file = self.files[number]
            assert file is not None  # the kernel takes part only where all lies in files of this host
            ranges.append(FileRange(file, host, size, shares=shares))
        return FileRanges(ranges)


class Outlined(Source):
    """An outline, all of whose rows are known."""

    def __init__(self, outline: Outline, rows: list[Row]):
        """`rows` cover the disk."""
        self.size = outline.size
        self.files = [layer.file.host for layer in outline.layers]
        self._outline, self._rows = outline, rows

    def rows(self) -> Iterator[list[Row]]:
        """Yields what it was made with; see `Source.rows`."""
        if self._rows:
            yield self._rows

    def read(self, ranges: Ranges, held: list[Row], buffer: memoryview) -> None:
        """Fills `buffer`; see `Source.read`."""
        self._outline.read_rows(held, buffer)


class Concatenation(Source):
    """Disks read as one, the first byte of each behind the last of the one before."""

    def __init__(self, disks: Sequence[Disk], *, overlay: bool = False):
        """With `overlay` rows tell only what the topmost layers hold themselves, and leave the rest to BACKING."""
        self.disks, self._overlay = tuple(disks), overlay
        self.files = [layer.file.host for disk in disks for layer in disk.layers]
        self.starts: list[int] = []
        self.size = 0
        for disk in disks:
            self.starts.append(self.size)
            self.size += disk.size

    def rows(self) -> Iterator[list[Row]]:
        """Yields the extents of the disks; see `Source.rows`."""
        ahead = 0
        for first, disk in zip(self.starts, self.disks, strict=True):
            for batch in disk.extents(depth=1 if self._overlay else None):
                for begin in range(0, len(batch), _ROWS_AT_ONCE):
                    rows = batch[begin : begin + _ROWS_AT_ONCE].tolist()
                    if len(self.disks) > 1:
                        rows = [(first + start, size, host, ahead + depth, kind) for start, size, host, depth, kind in rows]
                    yield rows
            ahead += len(disk.layers)

    def read(self, ranges: Ranges, held: list[Row], buffer: memoryview) -> None:
        """Fills `buffer`; see `Source.read`. What the topmost layers of an overlay leave to others is looked up."""
        if len(self.disks) == 1 and not (self._overlay and any(row[4] == BACKING for row in held)):
            self.disks[0].read_rows(held, buffer)
            return
        done = 0
        for start, end in ranges:
            self.readinto(start, buffer[done : done + end - start])
            done += end - start

    def readinto(self, start: int, buffer: memoryview) -> None:
        """Fills `buffer` from byte `start` on."""
        end = start + len(buffer)
        for first, disk in zip(self.starts, self.disks, strict=True):
            low, high = max(start, first), min(end, first + disk.size)
            if low < high:
                disk.readinto(low - first, buffer[low - start : high - start])
