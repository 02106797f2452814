"""What a run of guest bytes can be; see `cowherd.extents`. Apart from there, so that who only needs these does without arrays."""

from __future__ import annotations

BACKING = 0
"""Nothing in this layer: left to the backing file."""
ZERO = 1
"""Reads as zeros; `host` is a preallocated place or -1."""
DATA = 2
"""Plain bytes at `host` of the layer's file."""
COMPRESSED = 3
"""Whole compressed clusters; `host` is -1, the format decompresses."""

ENDLESS = 1 << 63
"""Behind the end of every disk."""

NOWHERE = -1
"""The `host` of an extent that has no plain bytes."""

Row = tuple[int, int, int, int, int]
"""An extent as plain integers: guest start, length, host offset, depth in the chain, kind."""


def cut(row: Row, start: int, end: int) -> Row:
    """Returns the part of a row that lies inside [start, end), which is not nothing."""
    guest, length, host, depth, kind = row
    skipped = max(0, start - guest)
    return guest + skipped, min(guest + length, end) - guest - skipped, host if host == NOWHERE else host + skipped, depth, kind
