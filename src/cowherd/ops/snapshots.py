"""Finds how a change of the layers below affects an image's internal snapshots: their unallocated clusters show these layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cowherd import extents as ext
from cowherd.errors import SnapshotsWouldChange
from cowherd.extents import Ranges
from cowherd.formats.layer import Layer
from cowherd.image.disk import Disk
from cowherd.image.snapshots import snapshot_disk, snapshots_of
from cowherd.ops.exposure import exposed_bytes
from cowherd.ops.side_by_side import SideBySide, chunks, read_padded
from cowherd.storage.hostfile import HostFile
from cowherd.storage.opening import require_host

_READ_BYTES = 2 << 20


class Exposed(NamedTuple):
    """A snapshot in an image's `file`, and the guest bytes of the layers below that it shows."""

    file: HostFile
    name: str
    ranges: Ranges


def exposed_snapshots(layers: Sequence[Layer], depth: int, changed: Ranges | None = None) -> list[Exposed]:
    """Returns the snapshots of the first of `layers` that show bytes of the layers below the top `depth`.

    If `changed` is given, only guest bytes in it count. Reads only tables. Raises `ImageFormatError` for broken ones.
    """
    found = []
    for snapshot in snapshots_of(layers[0]):
        disk = snapshot_disk(layers, snapshot)
        ranges = exposed_bytes(disk, depth, ext.ranges([(0, disk.size)]) if changed is None else changed)
        if len(ranges):
            found.append(Exposed(require_host(layers[0].file), snapshot.label, ranges))
    return found


def require_same(layers: Sequence[Layer], action: str, exposed: Sequence[Exposed], old: Disk | None, new: Disk | None) -> None:
    """Raises `SnapshotsWouldChange` if one of `exposed` would show other bytes with `new` in place of `old` (None: all zeros).

    `action` says in the error what was to be done to the first of `layers`. Reads both disks where the snapshots show them.
    """
    changing = {id(one) for one in _changing(exposed, old, new)}
    if changing:
        snapshots = [(one.file.path, one.name) for one in exposed if id(one) in changing]
        raise SnapshotsWouldChange(require_host(layers[0].file).path, action, snapshots)


def _changing(exposed: Sequence[Exposed], old: Disk | None, new: Disk | None) -> Iterator[Exposed]:
    """Yields each of `exposed` that shows a difference, once."""
    left = list(exposed)
    if not left:
        return
    for differing in _differences(ext.normalised(np.concatenate([one.ranges for one in left])), old, new):
        hit = [len(ext.intersect(one.ranges, differing)) > 0 for one in left]
        yield from (one for one, is_hit in zip(left, hit, strict=True) if is_hit)
        left = [one for one, is_hit in zip(left, hit, strict=True) if not is_hit]
        if not left:
            return


def _differences(ranges: Ranges, old: Disk | None, new: Disk | None) -> Iterator[Ranges]:
    """Yields, piece by piece, the bytes of `ranges` in which two disks differ; zeros follow the shorter one."""
    both = SideBySide(old, new)
    for start, end in both.windows(int(ranges[-1, 1]), int(ranges[0, 0])):
        a, b = both.covers(start, end)
        doubtful = ext.intersect(ext.ranges_of(a[~both.known_equal(a, b)]), ranges)
        for first, last in chunks(doubtful, _READ_BYTES):
            differs = read_padded(old, first, last - first) != read_padded(new, first, last - first)
            if differs.any():
                yield first + _runs(differs)


def _runs(mask: NDArray[np.bool_]) -> Ranges:
    """Returns the runs in which `mask` is set, as [start, end) pairs."""
    borders = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    return borders.reshape(-1, 2).astype(np.int64)
