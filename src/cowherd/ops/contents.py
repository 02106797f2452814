"""Two disks side by side: their extents cut at common borders, and which of them need no reading to be called equal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cowherd import extents as ext
from cowherd.extents import Extents, Ranges
from cowherd.image.disk import Disk

SECTOR = 512
_WINDOW_UNITS = 1 << 18
_RAW_UNIT = 64 << 10

Mask = NDArray[np.bool_]


class SideBySide:
    """Two disks seen as equally long: a shorter one ends in zeros, None is a disk of nothing but zeros."""

    def __init__(self, first: Disk | None, second: Disk | None):
        self.first, self.second = first, second
        self._identities = [
            [] if disk is None else [(layer.file.device, layer.file.inode) for layer in disk.layers] for disk in (first, second)
        ]

    def windows(self, end: int) -> Iterator[tuple[int, int]]:
        """Yields (start, end) of the guest ranges, small enough for their extents to fit in memory, that cover [0, `end`)."""
        layers = [layer for disk in (self.first, self.second) if disk is not None for layer in disk.layers]
        smallest = min([_RAW_UNIT, *(layer.granularity for layer in layers if layer.granularity > 1)])
        window = smallest * _WINDOW_UNITS
        for start in range(0, end, window):
            yield start, min(start + window, end)

    def covers(self, start: int, end: int) -> tuple[Extents, Extents]:
        """Returns the extents of both in [start, end), cut so that those of one index cover the same guest bytes."""
        return cut_alike(_cover(self.first, start, end), _cover(self.second, start, end))

    def known_equal(self, a: Extents, b: Extents) -> Mask:
        """Returns for each pair of `covers` whether it is the same without reading: zeros in both, or one place in one file."""
        return (reads_zero(a) & reads_zero(b)) | self._same_place(a, b)

    def _same_place(self, a: Extents, b: Extents) -> Mask:
        """Whether both sides' bytes come from the same place of the same file.

        Layers of one file may be opened as different formats; plain bytes at a host offset are the same bytes then too, and only
        one of the formats has compressed clusters.
        """
        files: dict[tuple[int, int], int] = {}
        numbers = [[files.setdefault(identity, len(files)) for identity in side] or [-1] for side in self._identities]
        same_file = np.array(numbers[0])[a["depth"]] == np.array(numbers[1])[b["depth"]]
        plain = (a["kind"] == ext.DATA) & (a["host"] == b["host"])
        same: Mask = same_file & (a["kind"] == b["kind"]) & (plain | (a["kind"] == ext.COMPRESSED))
        return same


def chunks(ranges: Ranges, size: int) -> Iterator[tuple[int, int]]:
    """Yields (start, end) pieces of `ranges` in order, cut at multiples of `size`."""
    for start, end in ranges.tolist():
        while start < end:
            stop = min(end, (start // size + 1) * size)
            yield start, stop
            start = stop


def reads_zero(batch: Extents) -> Mask:
    """Whether each extent of a whole chain is known to read as zeros."""
    return np.isin(batch["kind"], (ext.ZERO, ext.BACKING))


def cut_alike(a: Extents, b: Extents) -> tuple[Extents, Extents]:
    """Cuts two covers of one range at each other's borders: both results have the same `start` and `length` columns."""
    starts = np.union1d(a["start"], b["start"])
    borders = np.append(starts, ext.ends(a)[-1:])
    return _cut(a, starts, borders), _cut(b, starts, borders)


def _cut(cover: Extents, starts: NDArray[np.int64], borders: NDArray[np.int64]) -> Extents:
    owner = np.searchsorted(cover["start"], starts, side="right") - 1
    out = cover[owner]
    skipped = starts - out["start"]
    out["host"] = np.where(out["host"] == ext.NOWHERE, ext.NOWHERE, out["host"] + skipped)
    out["start"], out["length"] = starts, np.diff(borders)
    return out


def _cover(disk: Disk | None, start: int, end: int) -> Extents:
    """Returns one disk's extents of [start, end), zeros behind its end."""
    inside = start if disk is None else min(max(disk.size, start), end)
    parts = [] if disk is None or inside == start else list(disk.extents(start, inside - start))
    return ext.concat([*parts, ext.single(inside, end - inside, ext.ZERO)])


def read_padded(disk: Disk | None, start: int, length: int) -> NDArray[np.uint8]:
    """Returns `length` bytes of a disk, zeros behind its end; all zeros for None."""
    inside = 0 if disk is None else max(0, min(length, disk.size - start))
    buffer = np.empty(length, np.uint8)
    if disk is not None and inside:
        disk.readinto(start, buffer[:inside].data)
    buffer[inside:] = 0
    return buffer


def differing_ranges(start: int, a: NDArray[np.uint8], b: NDArray[np.uint8], unit: int) -> Ranges:
    """Returns where two equally long buffers that begin at guest byte `start` differ, in units of `unit` bytes from there.

    The length is whole sectors; the last unit may be shorter.
    """
    differs = a.view(np.uint64) != b.view(np.uint64)
    if not differs.any():
        return np.empty((0, 2), np.int64)
    sectors = np.flatnonzero(differs.reshape(-1, SECTOR // 8).any(axis=1))
    positions = sectors * SECTOR // unit * unit
    return ext.normalised(np.column_stack((positions, np.minimum(positions + unit, len(a))))) + start
