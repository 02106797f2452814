"""XFS's log: whether an unmount closed it, or it holds changes that the rest does not show yet.

Source: fs/xfs/xfs_log_recover.c (xlog_find_head, xlog_find_tail) and libxfs/xfs_log_format.h.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cowherd.guest.source import Malformed
from cowherd.guest.xfs.layout import Layout

_SECTOR = 512  # a basic block: the log's own unit, whatever the sectors of the device
_MAGIC = 0xFEEDBABE
_HEADER = struct.Struct(">IIIIQQII")
_CYCLE_BYTES = 32768  # bytes of a record for which one sector of header keeps the words that cycle numbers replace
_UNMOUNT = 0x20
_LONGEST_RECORD = 1 << 18


@dataclass(frozen=True)
class Log:
    """The state of a log: `clean` if an unmount closed it. `sequence` is the number that the next record would have."""

    clean: bool
    sequence: int


def read_log(layout: Layout) -> Log | None:
    """Returns the state of a file system's log, None if that lies on another device."""
    if not layout.values["log_start"]:
        return None
    return _Reader(layout).read()


class _Reader:
    def __init__(self, layout: Layout):
        self._volume = layout.volume
        start, end = layout.log
        self._start, self._size = start * layout.block, (end - start) * layout.block // _SECTOR

    def read(self) -> Log:
        try:
            cycle, head = self._head()
            return Log(self._ends_with_unmount(head), cycle << 32 | head)
        except Malformed:
            return Log(False, 0)

    def _sector(self, number: int) -> bytes:
        return self._volume.read(self._start + number % self._size * _SECTOR, _SECTOR)

    def _cycle(self, number: int) -> int:
        """Returns the cycle in which a sector was written: its first number, or in the header of a record its second."""
        first, second = struct.unpack_from(">II", self._sector(number))
        return int(second if first == _MAGIC else first)

    def _head(self) -> tuple[int, int]:
        """Returns the current cycle and the sector after the last one written, which is the only place where the cycle falls."""
        first = self._cycle(0)
        if not first:
            raise Malformed("the log was never written")
        if self._cycle(self._size - 1) == first:
            return first + 1, 0
        low, high = 0, self._size - 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._cycle(middle) == first else (low, middle)
        return first, high

    def _ends_with_unmount(self, head: int) -> bool:
        """Returns whether the last record before `head` is that of an unmount: with it, nothing is left to be done."""
        for back in range(2, min(self._size, _LONGEST_RECORD // _SECTOR + 16)):
            at = (head - back) % self._size
            sector = self._sector(at)
            magic, _, version, length, _, _, _, _ = _HEADER.unpack_from(sector)
            if magic != _MAGIC:
                continue
            # h_num_logops and h_size. An unmount is a record with one operation, right before the head.
            (operations,) = struct.unpack_from(">I", sector, 40)
            (size,) = struct.unpack_from(">I", sector, 320)
            heads = -(-size // _CYCLE_BYTES) if version & 2 and size > _CYCLE_BYTES else 1
            if (at + heads + -(-length // _SECTOR)) % self._size != head or operations != 1:
                return False
            return bool(self._sector(at + heads)[9] & _UNMOUNT)
        return False
