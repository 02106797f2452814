"""What a conversion reads: one disk, or several one behind the other."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence

from cowherd import extents as ext
from cowherd.extents import Extents
from cowherd.formats.raw import Raw
from cowherd.image.disk import Disk
from cowherd.storage.copying import FileRange
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

    def read_planned(self, batch: Extents, start: int, buffer: memoryview) -> None:
        """Does what `readinto` does; where `batch`, of `extents`, tells all about the range, no table is looked at again."""
        known = ext.clip(batch, start, start + len(buffer))
        complete = len(known) and int(known["length"].sum()) == len(buffer) and not (known["kind"] == ext.BACKING).any()
        if complete and len(self.disks) == 1:
            self.disks[0].read_extents(known, start, buffer)
        else:
            self.readinto(start, buffer)

    def in_one_piece(self, batch: Extents, start: int, end: int) -> FileRange | None:
        """Returns where a file holds [start, end) as it is, one byte behind the other; None if none does.

        `batch`, of `extents`, tells about the range. The holes of a raw file are part of such a piece, and read as zeros.
        """
        known = ext.clip(batch, start, end)
        if len(self.disks) > 1 or not len(known) or int(known["length"].sum()) != end - start:
            return None
        depth, host = int(known["depth"][0]), int(known["host"][0])
        together = (known["depth"] == depth) & (known["host"] - known["start"] == host - start)
        layer = self.disks[0].layers[depth]
        as_stored = together & (isinstance(layer, Raw) | (known["kind"] == ext.DATA))
        return FileRange(layer.file, host, end - start, shares=False) if as_stored.all() and host != ext.NOWHERE else None

    def extents(self, *, depth: int | None = None) -> Iterator[Extents]:
        """Yields the extents of all disks as batches; `host` and `depth` are those within each disk."""
        for first, disk in zip(self.starts, self.disks, strict=True):
            for batch in disk.extents(depth=depth):
                if first:
                    batch = batch.copy()
                    batch["start"] += first
                yield batch

    def file_at(self, start: int, depth: int) -> HostFile:
        """Returns the host file of the layer at `depth` of the disk that holds byte `start`."""
        index = bisect.bisect_right(self.starts, start) - 1
        return self.disks[index].layers[depth].file

    def layer_files(self) -> list[list[HostFile]]:
        """Returns the host files of each disk's layers."""
        return [[layer.file for layer in disk.layers] for disk in self.disks]
