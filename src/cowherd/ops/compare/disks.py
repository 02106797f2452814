"""Comparing two open disks of any kind; see `cowherd.ops.compare.compare`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cowherd import extents as ext
from cowherd.errors import CowherdError
from cowherd.extents import Extents
from cowherd.image.disk import Disk
from cowherd.ops.compare.comparison import Comparison, ReadFailed
from cowherd.ops.copying import Buffers, pump
from cowherd.ops.map import MapEntry, entries
from cowherd.ops.side_by_side import SideBySide, first_difference, groups, pieces, read_padded
from cowherd.progress import Progress
from cowherd.sizes import SECTOR
from cowherd.tuples import NamedTuple

_READ_BYTES = 1 << 20
"""Read from each side at once: what stays in the processor's cache until it is compared."""


class _Group(NamedTuple):
    """Extents of both disks that cover the same guest bytes, at most `_READ_BYTES` together."""

    a: Extents
    b: Extents


class _Differs(Exception):
    """Ends the reading at the first difference."""

    def __init__(self, offset: int):
        self.offset = offset


def compare_disks(a: Disk, b: Disk, *, strict: bool = False, begin: int = 0, progress: Progress | None = None) -> Comparison:
    """Compares two open disks, as `compare.compare` does; both are known to be equal before guest byte `begin`."""
    identical = Comparison(True, size_differs=a.size != b.size, smaller_size=min(a.size, b.size))
    if strict and a.size != b.size:
        return identical._replace(identical=False, reason="size")
    status = _first_status_mismatch(a, b) if strict else None
    # Bytes behind a difference in status are not looked at: it is found first.
    content = _first_difference(a, b, begin, max(a.size, b.size) if status is None else status, progress)
    if content is not None:
        return identical._replace(identical=False, offset=content, reason="content")
    if status is not None:
        return identical._replace(identical=False, offset=status, reason="status")
    return identical


def _first_difference(a: Disk, b: Disk, begin: int, end: int, progress: Progress | None) -> int | None:
    """Returns the guest offset of the first sector of [begin, end) that differs."""

    buffers = Buffers(_READ_BYTES)

    def load(group: _Group) -> int | None:
        length = int(group.a["length"].sum())
        left, right = buffers.take(length), buffers.take(length)
        _read_group(a, group.a, left)
        _read_group(b, group.b, right)
        found = first_difference(left, right)
        buffers.give(left)
        buffers.give(right)
        return None if found is None else _guest_offset(group.a, found)

    def store(group: _Group, difference: int | None) -> None:
        if difference is not None:
            raise _Differs(difference)
        if progress is not None:
            progress(int(ext.ends(group.a[-1:])[0]), end)

    try:
        pump(_to_read(a, b, begin, end), load, store)
    except _Differs as found:
        return _from_border(a, b, found.offset // SECTOR * SECTOR)
    if progress is not None:
        progress(end, end)
    return None


def _from_border(a: Disk, b: Disk, sector: int) -> int:
    """Returns where QEMU says that two disks differ that do in the sector at `sector`.

    It counts sectors from where the last run began, which is inside of one behind the end of a raw file that ends there.
    """
    starts = SideBySide(a, b).covers(sector, sector + SECTOR)[0]["start"]
    first = int(np.flatnonzero(_read(a, sector, SECTOR) != _read(b, sector, SECTOR))[0])
    return int(starts[np.searchsorted(starts, sector + first, side="right") - 1])


def _to_read(a: Disk, b: Disk, begin: int, end: int) -> Iterator[_Group]:
    """Yields what the tables leave open, in order; pieces that lie apart are read and compared together."""
    both = SideBySide(a, b)
    for start, stop in both.windows(end, begin):
        left, right = both.covers(start, stop)
        doubtful = ~both.known_equal(left, right)
        left, right = pieces(left[doubtful], _READ_BYTES), pieces(right[doubtful], _READ_BYTES)
        for first, last in groups(left, _READ_BYTES):
            yield _Group(left[first:last], right[first:last])


def _guest_offset(extents: Extents, position: int) -> int:
    """Returns the guest offset of byte `position` of what `extents` hold together."""
    ends = np.cumsum(extents["length"])
    index = int(np.searchsorted(ends, position, side="right"))
    return int(ext.ends(extents)[index] - ends[index]) + position


def _read_group(disk: Disk, extents: Extents, buffer: memoryview) -> None:
    try:
        disk.read_gathered(extents, buffer)
    except CowherdError as error:
        raise ReadFailed(disk.name, int(extents["start"][0]), error) from error


def _read(disk: Disk, start: int, length: int) -> NDArray[np.uint8]:
    try:
        return read_padded(disk, start, length)
    except CowherdError as error:
        raise ReadFailed(disk.name, start, error) from error


def _first_status_mismatch(a: Disk, b: Disk) -> int | None:
    """Returns the first guest offset at which QEMU would report different block statuses of two disks of one size.

    The status of the last run says that it is the last, so two disks also differ where only one of them has begun it.
    """
    ours, theirs = entries(a), entries(b)
    left, right = next(ours, None), next(theirs, None)
    while left is not None and right is not None:
        start = max(left.start, right.start)
        left_end, right_end = left.start + left.length, right.start + right.length
        if _status(left) != _status(right):
            return start
        last = _start_of_last(a, left), _start_of_last(b, right)
        if last[0] != last[1] and min(last) < min(left_end, right_end):
            return max(start, min(last))
        if left_end <= right_end:
            left = next(ours, None)
        if right_end <= left_end:
            right = next(theirs, None)
    return None


def _status(entry: MapEntry) -> tuple[bool, bool, bool, bool, bool]:
    return entry.present, entry.zero, entry.data, entry.compressed, entry.offset is not None


def _start_of_last(disk: Disk, entry: MapEntry) -> int:
    """Returns where QEMU sees the last run of a disk begin if `entry` reaches the end, and the end if it does not."""
    if entry.start + entry.length < disk.size:
        return disk.size
    starts = [entry.start]
    for layer in disk.layers[: entry.depth + 1]:
        if layer.status_reach is not None:
            starts.append((disk.size - 1) // layer.status_reach * layer.status_reach)
    return max(starts)
