"""The table of internal snapshots that `info` and `snapshot -l` print."""

from __future__ import annotations

import os
import time

from cowherd.sizes import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cowherd.formats.qcow2.snapshots import Snapshot

_COLUMNS = (-7, -16, 8, 19, 15, 10)
"""Widths in bytes, negative for text that is aligned to the left."""
_HEADING = ("ID", "TAG", "VM_SIZE", "DATE", "VM_CLOCK", "ICOUNT")


def snapshot_table(snapshots: Iterable[Snapshot]) -> list[str]:
    """Returns the table's lines, the heading first; dates are local time."""
    return [_row(_HEADING), *(_row(_cells(snapshot)) for snapshot in snapshots)]


def _cells(snapshot: Snapshot) -> tuple[str, ...]:
    milliseconds = snapshot.vm_clock_nanoseconds // 10**6
    seconds = milliseconds // 1000
    clock = f"{seconds // 3600:04d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{milliseconds % 1000:03d}"
    date = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(snapshot.date_seconds))
    icount = "--" if snapshot.icount is None else str(snapshot.icount)
    return snapshot.id, snapshot.name, human_size(snapshot.vm_state_size), date, clock, icount


def _row(cells: Iterable[str]) -> str:
    return " ".join(map(_padded, cells, _COLUMNS))


def _padded(text: str, width: int) -> str:
    """Pads as C's printf does, which counts bytes and not characters."""
    padding = " " * (abs(width) - len(os.fsencode(text)))
    return text + padding if width < 0 else padding + text
