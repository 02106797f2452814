"""The extra test of strict comparisons: whether QEMU reports the same block status for each run of bytes of two disks."""

from __future__ import annotations

from cowherd.image.disk import Disk
from cowherd.image.reading import Reading
from cowherd.ops.map import MapEntry, entries


def first_status_mismatch(a: Disk, b: Disk) -> int | None:
    """Returns the first guest offset at which QEMU would report different block statuses for two disks of one size, or None.

    The status of the last run says that it is the last, so two disks also differ where only one of them has begun it.
    """
    ours, theirs = entries(Reading.of(a)), entries(Reading.of(b))
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
