"""Finds where each run of guest bytes lies: the entries of `qemu-img map`.

The statuses are QEMU's (block/io.c, "bdrv_co_do_block_status"): a run is present if a layer allocates it, zero if it is known to
read as zeros, data if its bytes are stored. If QEMU finds that an image's metadata was preallocated, it also looks for holes in
the host file: a run in a hole is data and zero at once.
"""

from __future__ import annotations

from cowherd.image.reading import windows
from cowherd.kinds import BACKING, COMPRESSED, DATA, NOWHERE, ZERO
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cowherd.image.reading import Reading
    from cowherd.storage.blocks import BlockFile

_PRESENT, _ZERO, _DATA, _COMPRESSED = 1, 2, 4, 8
_STATUS = {
    BACKING: _ZERO,
    ZERO: _PRESENT | _ZERO,
    DATA: _PRESENT | _DATA,
    COMPRESSED: _PRESENT | _DATA | _COMPRESSED,
}
FLAGS = [(bool(bits & _PRESENT), bool(bits & _ZERO), bool(bits & _DATA), bool(bits & _COMPRESSED)) for bits in range(16)]
"""What each status says: `present`, `zero`, `data` and `compressed` of an entry."""

Run = tuple[int, int, int, int, int]
"""Start, length, depth, status and offset of a run of guest bytes: `FLAGS` explains the status, `NOWHERE` is no offset."""


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


def entries(reading: Reading, start: int = 0, length: int | None = None) -> Iterator[MapEntry]:
    """Yields the entries that together cover [start, start+length) (to the disk's end by default), in order.

    Adjacent entries differ in status, or are not contiguous on the host. Raises what reading the tables raises.
    """
    for begin, total, depth, status, offset in runs(reading, start, length):
        yield MapEntry(begin, total, depth, *FLAGS[status], None if offset == NOWHERE else offset)


def runs(reading: Reading, start: int = 0, length: int | None = None) -> Iterator[Run]:
    """Yields what `entries` yields as plain integers, which for many of them takes half as long."""
    end = reading.size if length is None else start + length
    hollow = [layer.metadata_preallocated() for layer in reading.layers]
    found = _runs(reading, start, end)
    if len(reading.layers) > 1:
        found = _given_to_layers_above(found, reading)
    if any(hollow):
        found = _split_at_holes(found, reading, hollow)
    return _merged(found)


def _runs(reading: Reading, start: int, end: int) -> Iterator[Run]:
    for low, high in windows([(reading, len(reading.layers))], end, start):
        for guest, length, host, depth, kind in reading.rows(low, high):
            yield guest, length, depth, _STATUS[kind], host


def _given_to_layers_above(runs: Iterable[Run], reading: Reading) -> Iterator[Run]:
    """Yields `runs`, of which bytes past the end of a backing file belong to the layer above it, as QEMU reports them."""
    ends = [layer.size for layer in reading.layers]
    for run in runs:
        start, length, depth, status, offset = run
        border = ends[depth]
        if not depth or start + length <= border:
            yield run
            continue
        if start < border:
            yield start, border - start, depth, status, offset
        yield from _unallocated(reading, depth - 1, max(border, start), start + length)


def _unallocated(reading: Reading, depth: int, start: int, end: int) -> Iterator[Run]:
    """Yields what layer `depth` says of a range that it leaves to a backing file without these bytes."""
    if not reading.layers[depth].has_subclusters:
        yield start, end - start, depth, _ZERO, NOWHERE
        return
    for guest, length, host, _, _ in reading.rows(start, end, depth, depth + 1):
        yield guest, length, depth, _ZERO, host  # a cluster has a place even if no subcluster of it is in use


def _split_at_holes(runs: Iterable[Run], reading: Reading, hollow: list[bool]) -> Iterator[Run]:
    """Yields `runs`, with data of `hollow` layers cut at the holes of their host files; what lies in holes becomes zero too."""
    for run in runs:
        start, length, depth, status, offset = run
        if not hollow[depth] or status != _PRESENT | _DATA:
            yield run
            continue
        for position, end, stored in _pieces(reading.layers[depth].data, offset, offset + length):
            yield start + position - offset, end - position, depth, status | (0 if stored else _ZERO), position


def _pieces(file: BlockFile, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
    """Yields (start, end, is data) for the runs of data and the holes in [start, end) of a file."""
    for data, hole in file.data_ranges(start, min(end, max(start, file.size()))):
        if data > start:
            yield start, data, False
        yield data, hole, True
        start = hole
    if start < end:
        yield start, end, False


def _merged(runs: Iterable[Run]) -> Iterator[Run]:
    """Yields a run for all adjacent runs that have one status and lie together."""
    begin = place = following = NOWHERE
    total = layer = bits = 0
    for start, length, depth, status, offset in runs:
        if total and depth == layer and status == bits and offset == following:
            total += length
        else:
            if total:
                yield begin, total, layer, bits, place
            begin, total, layer, bits, place = start, length, depth, status, offset
        following = NOWHERE if offset == NOWHERE else offset + length
    if total:
        yield begin, total, layer, bits, place
