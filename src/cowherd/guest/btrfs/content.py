"""The content of a btrfs's files: checksums of data, and the places from which it is read.

In bytes that may differ from what the guest wrote (`Cached.doubted`), data is compared with its checksums. The kernel does so for
each read, and returns an error for a sector that does not match.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

import numpy as np

from cowherd import extents
from cowherd.extents import Ranges
from cowherd.guest.btrfs.items import EXTENT_CSUM
from cowherd.guest.btrfs.layout import Layout
from cowherd.guest.btrfs.nodes import Leaf
from cowherd.guest.chart import NO_RANGES, union_of
from cowherd.guest.owners import set_bits
from cowherd.guest.source import Malformed

_STEP = 1 << 20


class Content:
    """Which logical addresses hold readable data, and where. `spare` are those of which only the second copy is sound."""

    def __init__(self, layout: Layout, leaves: Iterator[Leaf]):
        """Reads the leaves of the checksum tree. Raises `Malformed` if they make no sense."""
        self.layout = layout
        self._at: list[int] = []
        self._sums: list[bytes] = []
        for leaf in leaves:
            for _, _, address, body in leaf.of_types(EXTENT_CSUM):
                self._take(address, body)
        summed = extents.ranges((at, at + self._length(body)) for at, body in zip(self._at, self._sums, strict=True))
        doubted = layout.volume.from_disk(layout.volume.disk.doubted)
        # A second copy (DUP) is read only where the first is wrong, as the kernel does it; and it may be sound there.
        wrong = self._wrong(extents.intersect(layout.to_logical(doubted, 0), summed), 0)
        lost = self._wrong(wrong, 1)
        self.spare = extents.subtract(wrong, lost)
        self._sound = extents.subtract(summed, lost)
        self._sound_starts: list[int] = self._sound[:, 0].tolist()

    def _take(self, address: int, body: bytes) -> None:
        if address + self._length(body) >= 1 << 62:
            raise Malformed("checksums of addresses that can't be")
        if self._at and address < self._at[-1] + self._length(self._sums[-1]):
            raise Malformed("checksums overlap")
        self._at.append(address)
        self._sums.append(body)

    def _length(self, sums: bytes) -> int:
        return len(sums) // self.layout.sum_bytes * self.layout.sector

    def _wrong(self, addresses: Ranges, copy: int) -> Ranges:
        """Returns the sectors of `addresses` whose copy number `copy` does not match its checksum, or does not exist."""
        layout, found = self.layout, [NO_RANGES]
        for start, end in extents.aligned(addresses, layout.sector, 1 << 62).tolist():
            for at in range(start, end, _STEP):
                length = min(_STEP, end - at)
                stored = np.frombuffer(self.sums(at, length), np.uint8).reshape(-1, layout.sum_bytes)
                for skipped, place, size in self._by_chunk(at, length, copy):
                    if place is None:
                        found.append(np.array([[at + skipped, at + skipped + size]], np.int64))
                        continue
                    rows = np.frombuffer(layout.volume.read(place, size), np.uint8).reshape(-1, layout.sector)
                    first = skipped // layout.sector
                    unequal = (layout.sums(rows) != stored[first : first + len(rows)]).any(axis=1)
                    found.append(set_bits(unequal) * layout.sector + at + skipped)
        return union_of(found)

    def _by_chunk(self, start: int, length: int, copy: int) -> Iterator[tuple[int, int | None, int]]:
        """Yields (bytes before it, byte of the volume, length) of each part of a range of addresses that lies in one chunk.

        The byte is None in a chunk that has no such copy.
        """
        done = 0
        while done < length:
            chunk = self.layout.chunk_at(start + done, 1)
            size = min(length - done, chunk.start + chunk.length - start - done)
            place = chunk.copies[copy] + start + done - chunk.start if copy < len(chunk.copies) else None
            yield done, place, size
            done += size

    def sums(self, start: int, length: int) -> bytes:
        """Returns the checksums of a range of sectors, one after the other; those that the tree lacks are left out."""
        found, end, width = [], start + length, self.layout.sum_bytes
        index = max(0, bisect_right(self._at, start) - 1)
        while index < len(self._at) and self._at[index] < end:
            first = max(0, (start - self._at[index]) // self.layout.sector)
            last = (end - self._at[index]) // self.layout.sector
            found.append(self._sums[index][first * width : last * width])
            index += 1
        return b"".join(found)

    def is_sound(self, start: int, end: int) -> bool:
        """Returns whether a range of addresses can be read: all of it has checksums, and those in doubt match."""
        at = bisect_right(self._sound_starts, start) - 1
        return at >= 0 and end <= int(self._sound[at, 1])

    def places(self, start: int, length: int) -> list[tuple[int, int, int]]:
        """Returns (bytes before it, byte of the volume, length) of the parts of a range of addresses, from the copy that is read.

        Raises `Malformed` if the range is no part of a chunk.
        """
        chunk = self.layout.chunk_at(start, length)
        if not len(self.spare):
            return [(0, chunk.copies[0] + start - chunk.start, length)]
        whole = np.array([[start, start + length]], np.int64)
        second = extents.intersect(whole, self.spare)
        parts = [(low, high, 0) for low, high in extents.subtract(whole, second).tolist()]
        parts += [(low, high, 1) for low, high in second.tolist()]
        return [(low - start, chunk.copies[copy] + low - chunk.start, high - low) for low, high, copy in sorted(parts)]

    def on_volume(self, addresses: Ranges) -> Ranges:
        """Returns the bytes of the volume from which ranges of addresses are read."""
        second = extents.intersect(addresses, self.spare)
        first = self.layout.on_volume(extents.subtract(addresses, second), 0)
        return extents.union(first, self.layout.on_volume(second, 1))
