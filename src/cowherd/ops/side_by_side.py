"""Two disks side by side: their extents, cut at common borders, and which of these are known to be equal without reading."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import numpy as np
from numpy.typing import NDArray

from cowherd import extents as ext
from cowherd.extents import Extents, Ranges
from cowherd.image.disk import Disk
from cowherd.storage.buffers import clear

_WINDOW_UNITS = 1 << 18
_RAW_UNIT = 64 << 10
_BLOCK = 64 << 10
"""Bytes compared at once; smaller units are compared only within a block that differs."""

Mask = NDArray[np.bool_]


class SideBySide:
    """Two disks, seen as equally long: zeros follow the shorter one; None stands for a disk of zeros."""

    def __init__(self, first: Disk | None, second: Disk | None):
        self.first, self.second = first, second
        self._identities = [[] if disk is None else [layer.data.key for layer in disk.layers] for disk in (first, second)]

    def windows(self, end: int, start: int = 0) -> Iterator[tuple[int, int]]:
        """Yields the (start, end) of guest ranges that cover [`start`, `end`), each so small that its extents fit in memory.

        Where neither disk stores anything, a range may be of any length.
        """
        disks = [disk for disk in (self.first, self.second) if disk is not None]
        layers = [layer for disk in disks for layer in disk.layers]
        smallest = min([_RAW_UNIT, *(layer.granularity for layer in layers if layer.granularity > 1)])
        window = smallest * _WINDOW_UNITS
        while start < end:
            empty = min((disk.empty_until(start) for disk in disks), default=end)
            stop = min(end, max(start // window + 1, empty // window) * window)
            yield start, stop
            start = stop

    def covers(self, start: int, end: int) -> tuple[Extents, Extents]:
        """Returns the extents of both in [start, end), cut so that extents with the same index cover the same guest bytes."""
        return cut_alike(_cover(self.first, start, end), _cover(self.second, start, end))

    def known_equal(self, a: Extents, b: Extents) -> Mask:
        """Returns for each pair of `covers` whether it is known to be equal: zeros in both, or the same place in one file."""
        return (reads_zero(a) & reads_zero(b)) | self._same_place(a, b)

    def _same_place(self, a: Extents, b: Extents) -> Mask:
        """Returns for each pair whether the bytes of both come from the same place in the same file.

        The same file may be open in two formats; plain bytes at one host offset are then still the same bytes, and only one of
        the formats has compressed clusters.
        """
        files: dict[Hashable, int] = {}
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
    """Returns for each extent of a whole chain whether it is known to read as zeros."""
    zero: Mask = (batch["kind"] == ext.ZERO) | (batch["kind"] == ext.BACKING)
    return zero


def cut_alike(a: Extents, b: Extents) -> tuple[Extents, Extents]:
    """Returns two covers of one range cut at each other's borders: both have the same `start` and `length` columns."""
    starts = ext.distinct(np.concatenate((a["start"], b["start"])))
    lengths = np.append(starts[1:], ext.ends(a)[-1:]) - starts
    return _cut(a, starts, lengths, _indexes_of_extents(a, starts)), _cut(b, starts, lengths, _indexes_of_extents(b, starts))


def _indexes_of_extents(cover: Extents, starts: NDArray[np.int64]) -> NDArray[np.intp]:
    owners: NDArray[np.intp] = np.searchsorted(cover["start"], starts, side="right") - 1
    return owners


def _cut(extents: Extents, starts: NDArray[np.int64], lengths: NDArray[np.int64], owner: NDArray[np.intp]) -> Extents:
    """Returns the pieces that begin at `starts`; `owner` has for each the index of the extent in which it lies."""
    out: Extents = extents[owner]
    skipped = starts - out["start"]
    out["host"] = np.where(out["host"] == ext.NOWHERE, ext.NOWHERE, out["host"] + skipped)
    out["start"], out["length"] = starts, lengths
    return out


def _cover(disk: Disk | None, start: int, end: int) -> Extents:
    """Returns one disk's extents of [start, end), with zeros past its end."""
    inside = start if disk is None else min(max(disk.size, start), end)
    parts = [] if disk is None or inside == start else list(disk.extents(start, inside - start))
    return ext.concat([*parts, ext.single(inside, end - inside, ext.ZERO)])


def read_padded(disk: Disk | None, start: int, length: int) -> NDArray[np.uint8]:
    """Returns `length` bytes of a disk, zeros past its end; all zeros for None."""
    buffer = np.zeros(length, np.uint8)
    if disk is not None:
        disk.read_padded(start, buffer.data)
    return buffer


def differing_units(a: bytearray, b: memoryview, unit: int) -> list[tuple[int, int]]:
    """Returns (first, end) of the runs of units of `unit` bytes in which two buffers differ.

    The last unit may be shorter. `a` may be longer than `b`.
    """
    found: list[tuple[int, int]] = []
    for start, end in _differing(a, b, 0, len(b), max(unit, _BLOCK)):
        for first, last in ((start, end),) if unit >= _BLOCK else _differing(a, b, start, end, unit):
            if found and found[-1][1] == first:
                first = found.pop()[0]
            found.append((first, last))
    return found


def _differing(a: bytearray, b: memoryview, start: int, end: int, step: int) -> Iterator[tuple[int, int]]:
    for first in range(start, end, step):
        last = min(first + step, end)
        if not a.startswith(b[first:last], first):  # unlike a comparison of two slices, this copies nothing
            yield first, last


def read_gathered(disk: Disk | None, extents: Extents, buffer: memoryview) -> None:
    """Fills `buffer` with the bytes of `extents` of a disk, joined; with zeros for None."""
    if disk is None:
        clear(buffer)
    else:
        disk.read_gathered(extents, buffer)
