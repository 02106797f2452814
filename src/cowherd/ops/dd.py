"""Copies a part of one disk to the beginning of another."""

from __future__ import annotations

from cowherd import extents as ext
from cowherd.image.disk import Disk

PIECE_BYTES = 4 << 20


def copy_part(source: Disk, target: Disk, start: int, end: int) -> None:
    """Writes guest bytes [start, end) of `source` to `target` from its byte 0 on, which must read as zeros and be large enough.

    What reads as zeros without being stored is left out.
    """
    buffer = bytearray(PIECE_BYTES)
    for batch in source.extents(start, end - start):
        stored = batch[(batch["kind"] == ext.DATA) | (batch["kind"] == ext.COMPRESSED)]
        for position, length, *_ in ext.pieces(stored, PIECE_BYTES):
            view = memoryview(buffer)[:length]
            source.readinto(position, view)
            target.write(position - start, view)
    target.flush()
