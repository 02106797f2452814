"""Reads what an overlay showed before its base changed: the overlay of today, with old blocks of the base for the new ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from cowherd import extents
from cowherd.herd.records.block import BLOCK

if TYPE_CHECKING:
    from cowherd.extents import Ranges
    from cowherd.herd.seals.donors import BlockReader
    from cowherd.image.disk import Disk

CELL = 32
"""Bytes of a cell: where both states can be read, each cell counts as changed or not."""
_KEPT_BLOCKS = 64
_STEP = 1 << 20

ReadInto = Callable[[int, memoryview], None]


class FormerContent:
    """Reads an overlay as it was. `exposed` are the bytes of its base that it shows, in blocks that have changed."""

    def __init__(self, disk: Disk, exposed: Ranges, reader: BlockReader):
        self._disk, self._exposed, self._reader = disk, exposed, reader
        self._blocks: OrderedDict[int, memoryview] = OrderedDict()

    def readinto(self, offset: int, buffer: memoryview) -> None:
        """Fills `buffer` from guest byte `offset` on. Raises as the disk and the donors do."""
        self._disk.readinto(offset, buffer)
        here = extents.intersect(self._exposed, extents.ranges([(offset, offset + len(buffer))]))
        for start, end in here.tolist():
            while start < end:
                block, within = divmod(start, BLOCK)
                length = min(end - start, BLOCK - within)
                buffer[start - offset : start - offset + length] = self._block(block)[within : within + length]
                start += length

    def _block(self, block: int) -> memoryview:
        if block not in self._blocks:
            old = memoryview(bytearray(BLOCK))
            self._reader.read(block, old)
            self._blocks[block] = old
            if len(self._blocks) > _KEPT_BLOCKS:
                self._blocks.popitem(last=False)
        return self._blocks[block]


def steps(ranges: Ranges) -> Iterator[tuple[int, int]]:
    """Cuts ranges into (start, length) of at most 1 MiB."""
    for start, end in ranges.tolist():
        for at in range(start, end, _STEP):
            yield at, min(_STEP, end - at)


def differing_bytes(one: ReadInto, other: ReadInto, ranges: Ranges) -> Ranges:
    """Returns the parts of `ranges` in which two readers give different bytes, in cells of 32 bytes."""
    found = [np.empty((0, 2), np.int64)]
    for start, length in steps(ranges):
        unequal = np.flatnonzero(_read(one, start, length) != _read(other, start, length))
        cells = np.unique((unequal + start) // CELL)
        found.append(extents.normalised(np.column_stack((cells * CELL, cells * CELL + CELL))))
    return extents.intersect(extents.normalised(np.concatenate(found)), ranges)


def differs(one: ReadInto, other: ReadInto, ranges: Ranges) -> bool:
    """Returns whether two readers give different bytes anywhere in `ranges`; reads up to the first difference."""
    return any(not np.array_equal(_read(one, *step), _read(other, *step)) for step in steps(ranges))


def _read(read: ReadInto, start: int, length: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    buffer = bytearray(length)
    read(start, memoryview(buffer))
    return np.frombuffer(buffer, np.uint8)
