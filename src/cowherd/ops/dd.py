"""Copies a part of one disk to the beginning of another."""

from __future__ import annotations

from cowherd import extents as ext
from cowherd.formats import registry
from cowherd.image.disk import Disk

PIECE_BYTES = 4 << 20


def copy_part(source: Disk, target: Disk, start: int, end: int) -> None:
    """Writes guest bytes [start, end) of `source` to the start of `target`, which is new and large enough.

    It leaves out zeros that the source does not store, unless the target is a device, which may hold old data.
    """
    layer = target.layers[0]
    must_zero = registry.named(layer.format).verbatim and layer.file.is_block_device
    buffer = bytearray(PIECE_BYTES)
    for batch in source.extents(start, end - start):
        stored = batch[(batch["kind"] == ext.DATA) | (batch["kind"] == ext.COMPRESSED)]
        for zeros in batch[(batch["kind"] == ext.ZERO) | (batch["kind"] == ext.BACKING)] if must_zero else ():
            target.zero(int(zeros["start"]) - start, int(zeros["length"]))
        for position, length, *_ in ext.pieces(stored, PIECE_BYTES):
            view = memoryview(buffer)[:length]
            source.readinto(position, view)
            target.write(position - start, view)
    target.flush()
