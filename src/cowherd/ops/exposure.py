"""Finds what of the layers below shows through the layers above. Reads only tables."""

from __future__ import annotations

import numpy as np

from cowherd import extents
from cowherd.extents import Extents, Ranges
from cowherd.image.disk import Disk

NO_RANGES = np.empty((0, 2), np.int64)


def exposed_bytes(disk: Disk, depth: int, ranges: Ranges) -> Ranges:
    """Returns the parts of `ranges`, to the byte, in which the layers below the top `depth` layers of `disk` show through.

    Past the end of a layer above nothing shows through, since that reads as zeros.
    """
    return seen_through(disk, depth, extents.intersect(ranges, extents.ranges([(0, disk.size)])))[0]


def has_own_data(disk: Disk, depth: int) -> bool:
    """Returns whether the top `depth` layers hold anything of their own: data, or clusters of zeros."""
    return any(_holds_data(disk, depth, batch) for batch in disk.extents(depth=depth))


def seen_through(disk: Disk, depth: int, ranges: Ranges) -> tuple[Ranges, bool]:
    """Returns what `exposed_bytes` does, and whether the layers above hold data of their own from the first range to the last."""
    found, own = [NO_RANGES], False
    if len(ranges):
        start, end = int(ranges[0, 0]), int(ranges[-1, 1])
        for batch in disk.extents(start, end - start, depth=depth):
            found.append(extents.ranges_of(extents.restrict(extents.of_kind(batch, extents.BACKING), ranges)))
            own = own or _holds_data(disk, depth, batch)
    return extents.normalised(np.concatenate(found)), own


def _holds_data(disk: Disk, depth: int, batch: Extents) -> bool:
    """Returns whether a layer holds some of `batch` itself. Zeros past the end of a short layer don't count: none holds them."""
    sizes = np.array([layer.size for layer in disk.layers[:depth]], np.int64)
    return bool(((batch["kind"] != extents.BACKING) & (batch["start"] < sizes[batch["depth"]])).any())
