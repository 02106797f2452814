"""What a conversion reads: one disk, or several one behind the other."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence

from cowherd import extents as ext
from cowherd.extents import Extents, Ranges
from cowherd.image.disk import Disk
from cowherd.storage.copying import FileRange, FileRanges
from cowherd.storage.hostfile import HostFile


class Concatenation:
    """Disks read as one, the first byte of each behind the last of the one before."""

    def __init__(self, disks: Sequence[Disk]):
        self.disks = tuple(disks)
        self.starts: list[int] = []
        self.size = 0
        for disk in disks:
            self.starts.append(self.size)
            self.size += disk.size

    def readinto(self, start: int, buffer: memoryview) -> None:
        """Fills `buffer` from byte `start` on; what lies behind the last disk reads as zeros."""
        end = start + len(buffer)
        for first, disk in zip(self.starts, self.disks, strict=True):
            lo, hi = max(start, first), min(end, first + disk.size)
            if lo < hi:
                disk.readinto(lo - first, buffer[lo - start : hi - start])
        if end > self.size:
            inside = max(0, self.size - start)
            buffer[inside:] = bytes(len(buffer) - inside)

    def read(self, ranges: Ranges, held: Extents, buffer: memoryview, *, overlay: bool) -> None:
        """Fills `buffer` with the bytes of `ranges`, one behind the other.

        Where `held`, the extents in them, tells all about the ranges, no table is looked at again. With `overlay` it comes from
        the topmost layers alone, and what they leave to others is looked up.
        """
        complete = int(held["length"].sum()) == len(buffer) and not (overlay and (held["kind"] == ext.BACKING).any())
        if complete and len(self.disks) == 1:
            self.disks[0].read_gathered(held, buffer)
            return
        done = 0
        for start, end in ranges.tolist():
            self.readinto(start, buffer[done : done + end - start])
            done += end - start

    def stored(self, held: Extents, *, shares: bool) -> FileRanges:
        """Returns where files hold the extents `held`, all of plain data; with `shares` blocks are to be shared."""
        layers = self._disk_at(int(held["start"][0])).layers  # a batch of `extents` is of one disk
        return FileRanges([FileRange(layers[depth].file, host, size, shares=shares) for _, size, host, depth, _ in held.tolist()])

    def extents(self, *, depth: int | None = None) -> Iterator[Extents]:
        """Yields the extents of all disks as batches; `host` and `depth` are those within each disk."""
        for first, disk in zip(self.starts, self.disks, strict=True):
            for batch in disk.extents(depth=depth):
                if first:
                    batch = batch.copy()
                    batch["start"] += first
                yield batch

    def layer_files(self) -> list[list[HostFile]]:
        """Returns the host files of each disk's layers."""
        return [[layer.file for layer in disk.layers] for disk in self.disks]

    def _disk_at(self, start: int) -> Disk:
        return self.disks[bisect.bisect_right(self.starts, start) - 1]
