"""Finds where each run of guest bytes lies: the entries of `qemu-img map`.

The statuses are QEMU's (block/io.c, "bdrv_co_do_block_status"): a run is present if a layer allocates it, zero if it is known to
read as zeros, data if its bytes are stored. If QEMU finds that an image's metadata was preallocated, it also looks for holes in
the host file: a run in a hole is data and zero at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cowherd import extents as ext
from cowherd.extents import Extents
from cowherd.formats.layer import Layer
from cowherd.image.disk import Disk
from cowherd.storage.blocks import BlockFile

_ROW = np.dtype([("start", np.int64), ("length", np.int64), ("depth", np.int64), ("status", np.int64), ("offset", np.int64)])
_PRESENT, _ZERO, _DATA, _COMPRESSED = 1, 2, 4, 8
_STATUS = np.zeros(4, np.int64)
_STATUS[ext.BACKING] = _ZERO
_STATUS[ext.ZERO] = _PRESENT | _ZERO
_STATUS[ext.DATA] = _PRESENT | _DATA
_STATUS[ext.COMPRESSED] = _PRESENT | _DATA | _COMPRESSED

Rows = NDArray[np.void]


class MapEntry(NamedTuple):
    """One run of guest bytes with one status. `depth` is the layer that provides it, 0 is the image itself.

    `offset` is its place in that layer's file (None: nowhere, or compressed); a run may have an offset and not be data.
    """

    start: int
    length: int
    depth: int
    present: bool
    zero: bool
    data: bool
    compressed: bool
    offset: int | None


def entries(disk: Disk, start: int = 0, length: int | None = None) -> Iterator[MapEntry]:
    """Yields the entries that together cover [start, start+length) (to the disk's end by default), in order.

    Adjacent entries differ in status, or are not contiguous on the host. Raises what reading the tables raises.
    """
    holes_inside = [layer.metadata_preallocated() for layer in disk.layers]
    pending = np.empty(0, _ROW)
    for batch in disk.extents(start, length):
        rows = _merged(np.concatenate((pending, _rows(disk, batch, holes_inside))))
        yield from (_entry(*row) for row in rows[:-1].tolist())
        pending = rows[-1:]
    yield from (_entry(*row) for row in pending.tolist())


def _rows(disk: Disk, batch: Extents, holes_inside: list[bool]) -> Rows:
    rows = np.empty(len(batch), _ROW)
    for name in ("start", "length", "depth"):
        rows[name] = batch[name]
    rows["status"], rows["offset"] = _STATUS[batch["kind"]], batch["host"]
    for depth in range(1, len(disk.layers)):
        rows = _given_to_layer_above(rows, depth, disk)
    for depth, hollow in enumerate(holes_inside):
        if hollow:
            rows = _split_at_holes(rows, depth, disk.layers[depth])
    return rows


def _given_to_layer_above(rows: Rows, depth: int, disk: Disk) -> Rows:
    """Returns `rows` in which the bytes past the end of layer `depth` belong to the layer above it, as QEMU reports them."""
    layer_end = disk.layers[depth].size
    rows = _cut(rows, layer_end)
    past = (rows["depth"] == depth) & (rows["start"] >= layer_end)
    if not past.any():
        return rows
    above = disk.layers[depth - 1]
    if above.has_subclusters:  # its clusters have an offset even if no subcluster is in use
        places = [above.extents(start, length) for start, length, *_ in rows[past].tolist()]
        replaced = np.concatenate([_unallocated(place, depth - 1) for place in places])
        joined = np.concatenate((rows[~past], replaced))
        return joined[np.argsort(joined["start"], kind="stable")]
    rows["depth"][past], rows["status"][past], rows["offset"][past] = depth - 1, _ZERO, ext.NOWHERE
    return rows


def _unallocated(batch: Extents, depth: int) -> Rows:
    rows = np.empty(len(batch), _ROW)
    rows["start"], rows["length"], rows["offset"] = batch["start"], batch["length"], batch["host"]
    rows["depth"], rows["status"] = depth, _ZERO
    return rows


def _cut(rows: Rows, border: int) -> Rows:
    """Returns `rows` with the row that crosses guest byte `border`, if there is one, cut in two."""
    crossing = np.flatnonzero((rows["start"] < border) & (rows["start"] + rows["length"] > border))
    if not len(crossing):
        return rows
    index = int(crossing[0])
    rows = np.concatenate((rows[: index + 1], rows[index:]))
    first = border - int(rows["start"][index])
    rows["length"][index] = first
    rows["start"][index + 1] = border
    rows["length"][index + 1] -= first
    if rows["offset"][index + 1] != ext.NOWHERE:
        rows["offset"][index + 1] += first
    return rows


def _split_at_holes(rows: Rows, depth: int, layer: Layer) -> Rows:
    """Returns `rows` with the data of one layer cut at the holes of its host file; the rows in holes become zero too."""
    concerned = (rows["depth"] == depth) & (rows["status"] == _PRESENT | _DATA)
    if not concerned.any():
        return rows
    parts = [rows[~concerned]]
    for start, length, _, status, offset in rows[concerned].tolist():
        pieces = [
            (start + position - offset, end - position, depth, status | (0 if stored else _ZERO), position)
            for position, end, stored in _pieces(layer.data, offset, offset + length)
        ]
        parts.append(np.array(pieces, _ROW))
    joined = np.concatenate(parts)
    return joined[np.argsort(joined["start"], kind="stable")]


def _pieces(file: BlockFile, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
    """Yields (start, end, is data) for the runs of data and the holes in [start, end) of a file."""
    for data, hole in file.data_ranges(start, min(end, max(start, file.size()))):
        if data > start:
            yield start, data, False
        yield data, hole, True
        start = hole
    if start < end:
        yield start, end, False


def _merged(rows: Rows) -> Rows:
    a, b = rows[:-1], rows[1:]
    nowhere = (a["offset"] == ext.NOWHERE) & (b["offset"] == ext.NOWHERE)
    contiguous = (a["offset"] != ext.NOWHERE) & (a["offset"] + a["length"] == b["offset"])
    continues = (a["depth"] == b["depth"]) & (a["status"] == b["status"]) & (nowhere | contiguous)
    first = np.concatenate(([0], np.flatnonzero(~continues) + 1))
    out = rows[first].copy()
    out["length"] = np.add.reduceat(rows["length"], first)
    return out


def _entry(start: int, length: int, depth: int, status: int, offset: int) -> MapEntry:
    return MapEntry(
        start,
        length,
        depth,
        present=bool(status & _PRESENT),
        zero=bool(status & _ZERO),
        data=bool(status & _DATA),
        compressed=bool(status & _COMPRESSED),
        offset=None if offset == ext.NOWHERE else offset,
    )
