"""What a conversion reads: images one after the other, as rows (`cowherd.kinds.Row`) whose `depth` is the number of a file."""

from __future__ import annotations

from cowherd.image.rows import stretches_in
from cowherd.kinds import BACKING
from cowherd.storage.copying import FileRange, FileRanges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cowherd.image.reading import Reading
    from cowherd.image.rows import Ranges
    from cowherd.kinds import Row
    from cowherd.storage.ahead import Stretch


class Source:
    """Images read as one, each beginning after the last byte of the one before.

    Several threads may `read` at once; only one may use `rows`.
    """

    def __init__(self, images: Sequence[Reading], *, overlay: bool = False):
        """With `overlay`, rows only show what the topmost layers hold themselves; the rest is BACKING."""
        self._images, self._overlay = tuple(images), overlay
        self._disks = [image.disk() for image in images] if overlay or len(images) > 1 else []
        self.files = [layer.data.host for image in images for layer in image.layers]  # None for a file on another host
        self._starts: list[int] = []
        self.size = 0
        for image in images:
            self._starts.append(self.size)
            self.size += image.size

    def rows(self) -> Iterator[list[Row]]:
        """Yields rows, in order, that cover the whole source. Raises what `Reading.rows` raises."""
        ahead = 0
        for first, image in zip(self._starts, self._images, strict=True):
            for rows in image.batches(depth=1 if self._overlay else None):
                if len(self._images) > 1:
                    rows = [(first + start, size, host, ahead + depth, kind) for start, size, host, depth, kind in rows]
                yield rows
            ahead += len(image.layers)

    def read(self, ranges: Ranges, held: list[Row], buffer: memoryview) -> None:
        """Fills `buffer` with the bytes of `ranges`, one after the other; `held` are the rows in them.

        It looks up the bytes that the topmost layers of an overlay leave to others.
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

    def stretches(self, held: list[Row]) -> Iterator[Stretch]:
        """Yields where files of this host hold the rows `held`; see `stretches_in`."""
        return stretches_in(self.files, held)

    def stored(self, held: list[Row], *, shares: bool) -> FileRanges:
        """Returns where files hold the rows `held`, which are all plain data; `shares` asks to share blocks."""
        ranges = []
        for _, size, host, number, _ in held:
            file = self.files[number]
            assert file is not None  # the kernel only copies between files of this host
            ranges.append(FileRange(file, host, size, shares=shares))
        return FileRanges(ranges)
