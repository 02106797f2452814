"""What a conversion reads: images one behind the other, as rows (`cowherd.kinds.Row`) whose `depth` is the number of a file."""

from __future__ import annotations

from cowherd.kinds import BACKING
from cowherd.storage.copying import FileRange, FileRanges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cowherd.image.reading import Reading
    from cowherd.image.rows import Ranges
    from cowherd.kinds import Row


class Source:
    """Images read as one, the first byte of each behind the last of the one before.

    Several threads may read at once; `rows` belongs to one.
    """

    def __init__(self, images: Sequence[Reading], *, overlay: bool = False):
        """With `overlay` rows tell only what the topmost layers hold themselves, and leave the rest to BACKING."""
        self._images, self._overlay = tuple(images), overlay
        self._disks = [image.disk() for image in images] if overlay or len(images) > 1 else []
        self.files = [layer.data.host for image in images for layer in image.layers]  # None for what lies on another host
        self._starts: list[int] = []
        self.size = 0
        for image in images:
            self._starts.append(self.size)
            self.size += image.size

    def rows(self) -> Iterator[list[Row]]:
        """Yields rows, in order, that cover all of it. Raises as `Reading.rows`."""
        ahead = 0
        for first, image in zip(self._starts, self._images, strict=True):
            for rows in image.batches(depth=1 if self._overlay else None):
                if len(self._images) > 1:
                    rows = [(first + start, size, host, ahead + depth, kind) for start, size, host, depth, kind in rows]
                yield rows
            ahead += len(image.layers)

    def read(self, ranges: Ranges, held: list[Row], buffer: memoryview) -> None:
        """Fills `buffer` with the bytes of `ranges`, one behind the other; `held` are the rows in them.

        What the topmost layers of an overlay leave to others is looked up.
        """
        if len(self._images) == 1 and not (self._overlay and any(row[4] == BACKING for row in held)):
            self._images[0].read(held, buffer)
            return
        done = 0
        for start, end in ranges:
            self._readinto(start, buffer[done : done + end - start])
            done += end - start

    def _readinto(self, start: int, buffer: memoryview) -> None:
        """Fills `buffer` from byte `start` on."""
        end = start + len(buffer)
        for first, disk in zip(self._starts, self._disks, strict=True):
            low, high = max(start, first), min(end, first + disk.size)
            if low < high:
                disk.readinto(low - first, buffer[low - start : high - start])

    def stored(self, held: list[Row], *, shares: bool) -> FileRanges:
        """Returns where files hold the rows `held`, all of plain data; with `shares` blocks are to be shared."""
        ranges = []
        for _, size, host, number, _ in held:
            file = self.files[number]
            assert file is not None  # the kernel takes part only where all lies in files of this host
            ranges.append(FileRange(file, host, size, shares=shares))
        return FileRanges(ranges)
