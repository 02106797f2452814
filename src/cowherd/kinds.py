"""The kinds of runs of guest bytes; see `cowherd.extents`. They stand apart from it, so that importing them needs no numpy."""

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
"""A guest offset past the end of every disk."""

NOWHERE = -1
"""The `host` of an extent that has no plain bytes."""

Row = tuple[int, int, int, int, int]
"""An extent as plain integers: guest start, length, host offset, depth in the chain, kind."""


def cut(row: Row, start: int, end: int) -> Row:
    """Returns the part of a row inside [start, end); it must not be empty."""
    guest, length, host, depth, kind = row
    skipped = max(0, start - guest)
    return guest + skipped, min(guest + length, end) - guest - skipped, host if host == NOWHERE else host + skipped, depth, kind
