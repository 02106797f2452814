"""Bytes of a disk, or of a volume on it, for the readers of file systems."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cowherd import extents
from cowherd.extents import Ranges

CACHED_BLOCK = 65536  # bytes; readers ask for single structures of 512 bytes to some KiB, many of them side by side
CACHED_BLOCKS = 256

Numbers = NDArray[np.int64]
Fetch = Callable[[int, int], bytes]
"""Returns `length` bytes from `offset` on; both lie inside the disk."""


Report = Callable[[int, int], None]
"""Called with how much of a piece of work is done, and of how much."""

_STEPS = 1000  # a report crosses a pipe to another process, so one an entry would cost more than the reading


class Malformed(Exception):
    """A structure is not what it says it is, or refers to a place that is not there. The message says what and where."""


class Cached:
    """A disk that is read in blocks of 64 KiB; the 256 most recently used ones are kept.

    `doubted` are the bytes that may differ from what the guest wrote there: a reader that can check files' content checks these.
    """

    def __init__(self, fetch: Fetch, size: int, report: Report | None = None, doubted: Ranges | None = None):
        self.size = size
        self.doubted = extents.ranges([(0, size)] if size else []) if doubted is None else doubted
        self._fetch, self._report, self._reported = fetch, report, -1
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def report(self, done: int, total: int) -> None:
        """Reports how many of a file system's entries (or of whatever a reader counts) are read, in steps of a thousandth."""
        done = min(done, total)
        step = done * _STEPS // max(total, 1)
        if self._report and step != self._reported:
            self._reported = step
            self._report(done, total)

    def read(self, offset: int, length: int) -> bytes:
        """Returns `length` bytes. Raises `Malformed` for a range that does not lie inside the disk."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise Malformed(f"something is said to lie at bytes {offset} to {offset + length}, past the end")
        if length > CACHED_BLOCK:
            return self._fetch(offset, length)
        first, last = offset // CACHED_BLOCK, (offset + length - 1) // CACHED_BLOCK
        joined = b"".join(self._block(number) for number in range(first, last + 1))
        return joined[offset - first * CACHED_BLOCK :][:length]

    def _block(self, number: int) -> bytes:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        start = number * CACHED_BLOCK
        data = self._blocks[number] = self._fetch(start, min(CACHED_BLOCK, self.size - start))
        if len(self._blocks) > CACHED_BLOCKS:
            self._blocks.popitem(last=False)
        return data


class Volume:
    """An address space made of pieces of a disk, in order: a partition (one piece) or a logical volume."""

    def __init__(self, disk: Cached, place: str, pieces: Sequence[tuple[int, int]] | Numbers):
        """`pieces` are (guest byte of the disk, length) pairs; they must lie inside the disk."""
        self.disk, self.place = disk, place
        self._at = np.array(pieces, np.int64).reshape(-1, 2)
        ends = np.cumsum(self._at[:, 1])
        self._starts = ends - self._at[:, 1]
        self.size = int(ends[-1]) if len(ends) else 0

    @property
    def pieces(self) -> Ranges:
        """Its pieces in order, each a guest byte of the disk and a length."""
        return self._at

    @property
    def span(self) -> Ranges:
        """The bytes of the disk that the volume consists of."""
        return extents.normalised(np.column_stack((self._at[:, 0], self._at.sum(axis=1))))

    def read(self, offset: int, length: int) -> bytes:
        """Returns `length` bytes. Raises `Malformed` for a range that does not lie inside the volume."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise Malformed(f"something is said to lie at bytes {offset} to {offset + length}, past the end of {self.place}")
        return b"".join(self.disk.read(start, size) for _, start, size in self._parts(offset, length))

    def on_disk(self, ranges: Ranges) -> Ranges:
        """Returns where ranges of the volume lie on the disk, without what is past the volume's end."""
        if len(self._at) == 1:
            inside = extents.intersect(extents.normalised(ranges), extents.ranges([(0, self.size)]))
            moved: Ranges = inside + self._at[0, 0]
            return moved
        ranges = extents.normalised(ranges)
        _, _, starts, sizes = self.placed(ranges[:, 0], ranges[:, 1] - ranges[:, 0])
        return extents.normalised(np.column_stack((starts, starts + sizes)))

    def placed(self, starts: Numbers, lengths: Numbers) -> tuple[Numbers, Numbers, Numbers, Numbers]:
        """Splits runs of the volume, any number at once, where its pieces end; leaves out what is past the volume's end.

        Returns four arrays, one element a part: the index of the run that it belongs to, the bytes of the run before it, its byte
        of the disk and its length.
        """
        first = np.maximum(np.searchsorted(self._starts, starts, side="right") - 1, 0)
        counts = np.maximum(np.searchsorted(self._starts, starts + lengths, side="left") - first, 0)
        # One row for each pair of a run and a piece that it touches: the pieces of one run are adjacent, counted from its first.
        owner = np.repeat(np.arange(len(starts)), counts)
        piece = first[owner] + np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        low = np.maximum(starts[owner], self._starts[piece])
        high = np.minimum((starts + lengths)[owner], self._starts[piece] + self._at[piece, 1])
        there = high > low
        owner, piece, low, high = owner[there], piece[there], low[there], high[there]
        return owner, low - starts[owner], self._at[piece, 0] + low - self._starts[piece], high - low

    def from_disk(self, ranges: Ranges) -> Ranges:
        """Returns where ranges of the disk lie in the volume, without what is outside of the volume."""
        order = np.argsort(self._at[:, 0], kind="stable")
        starts, ends, within = self._at[order, 0], self._at[order].sum(axis=1), self._starts[order]
        first = np.searchsorted(ends, ranges[:, 0], side="right")
        counts = np.maximum(np.searchsorted(starts, ranges[:, 1], side="left") - first, 0)
        owner = np.repeat(np.arange(len(ranges)), counts)
        piece = first[owner] + np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        low, high = np.maximum(ranges[owner, 0], starts[piece]), np.minimum(ranges[owner, 1], ends[piece])
        moved = within[piece] - starts[piece]
        return extents.normalised(np.column_stack((low + moved, high + moved)))

    def runs_on_disk(self, runs: Sequence[tuple[int, int, int]], size: int) -> list[tuple[int, int, int]]:
        """Returns (offset in a file, byte of the volume, length) runs as runs of the disk, shortened to the file's `size`.

        Raises `Malformed` for a run that does not lie inside the volume.
        """
        found = []
        for file_offset, start, length in runs:
            length = min(length, size - file_offset)
            if length <= 0:
                continue
            if start < 0 or start + length > self.size:
                raise Malformed(f"a file is said to have blocks at byte {start}, past the end of {self.place}")
            found += [(file_offset + done, host, part) for done, host, part in self._parts(start, length)]
        return found

    def _parts(self, offset: int, length: int) -> list[tuple[int, int, int]]:
        """Returns (bytes before it, byte of the disk, length) for each piece that a range of the volume lies in."""
        parts, done = [], 0
        piece = int(np.searchsorted(self._starts, offset, side="right")) - 1
        while done < length and piece < len(self._at):
            within = offset + done - int(self._starts[piece])
            part = min(length - done, int(self._at[piece, 1]) - within)
            if part > 0:
                parts.append((done, int(self._at[piece, 0]) + within, part))
                done += part
            piece += 1
        return parts
