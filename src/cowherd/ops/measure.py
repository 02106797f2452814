"""Computes how large a new image file becomes: for an empty image of some size, or for a copy of another image."""

from __future__ import annotations

from cowherd.errors import InvalidRequest
from cowherd.formats import registry
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.bitmaps import ENTRY
from cowherd.formats.qcow2.create import refcount_clusters
from cowherd.formats.qcow2.options import Qcow2Options
from cowherd.image.reading import open_reading
from cowherd.kinds import COMPRESSED, DATA
from cowherd.ops.map import entries
from cowherd.sizes import size_in_bytes, whole_sectors
from cowherd.text import printable
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from cowherd.formats.qcow2.bitmaps import Bitmap
    from cowherd.image.reading import Reading
    from cowherd.sizes import Size
    from cowherd.urls import ImageName

_WORD = 8


class Measurement(NamedTuple):
    """Bytes of a new image file: `required` when it is made, `fully_allocated` once every cluster is in use.

    `bitmaps` is what the source's persistent bitmaps need in addition; None if source or target can't have any.
    """

    required: int
    fully_allocated: int
    bitmaps: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns plain values, as `cowherd-img measure --output=json` prints them."""
        bitmaps = {} if self.bitmaps is None else {"bitmaps": self.bitmaps}
        return {**bitmaps, "required": self.required, "fully-allocated": self.fully_allocated}


def measure(
    path: ImageName | None = None,
    *,
    size: Size | None = None,
    source_format: str | None = None,
    target_format: str = registry.NEW_TARGET,
    options: Mapping[str, str] | Qcow2Options | None = None,
    backing: bool = False,
    force_share: bool = False,
) -> Measurement:
    """Measures a copy of the image at `path` with its chain, or an empty image of `size` bytes.

    `options` are those of `qemu-img create -o`, as far as they concern the format. With `backing` the new image has a backing
    file; since it is not known what that shares with the source, all of the source counts.
    The numbers are those of `qemu-img measure`; `required` is an upper bound, with the tables of a full image.
    Raises `InvalidRequest`, and what opening the source raises.
    """
    target = registry.named(target_format)
    if not target.creatable:
        raise InvalidRequest(f"the size of images of format '{printable(target_format)}' can't be measured")
    if (path is None) == (size is None):
        raise InvalidRequest("either a size or an image must be given to measure")
    chosen = options if isinstance(options, Qcow2Options) else Qcow2Options.from_mapping(options or {})
    if path is None:
        return _measure_empty(size_in_bytes(0 if size is None else size), target, chosen)
    with open_reading(path, format=source_format, force_share=force_share) as reading:
        if target.verbatim:
            return Measurement(reading.size, reading.size)
        return _measure_copy(reading, chosen, backing=backing)


def _measure_empty(size: int, target: registry.Format, options: Qcow2Options) -> Measurement:
    if size < 0:
        raise InvalidRequest(f"an image can't have {size} bytes")
    if target.verbatim:
        whole = whole_sectors(size)
        return Measurement(whole, whole)
    reach = options.cluster_size * options.cluster_size // (16 if options.extended_l2 else 8)
    if -(-size // reach) * _WORD > layout.MAX_L1_BYTES:
        raise InvalidRequest("The image size is too large (try using a larger cluster size)")
    return _sum_up(size, 0, options)


def _measure_copy(reading: Reading, options: Qcow2Options, *, backing: bool) -> Measurement:
    data = reading.size if backing else _clusters_with_data(reading, options.cluster_size) * options.cluster_size
    measured = _sum_up(reading.size, data, options)
    bitmaps = reading.layers[0].bitmaps() if options.version >= 3 else None
    if bitmaps is None:
        return measured
    return measured._replace(bitmaps=_bytes_for_bitmaps(bitmaps, reading.size, options.cluster_size))


def _sum_up(size: int, data: int, options: Qcow2Options) -> Measurement:
    """Returns the measurement for a disk of `size` bytes of which `data` bytes, in whole clusters, are copied."""
    disk = _round_up(size, options.cluster_size)
    metadata = metadata_bytes(disk, options)
    if options.preallocation in ("falloc", "full"):
        data = disk
    return Measurement(metadata + _round_up(data, options.cluster_size), metadata + disk)


def metadata_bytes(size: int, options: Qcow2Options) -> int:
    """Returns the bytes of header, tables and refcounts of an image whose `size` bytes (whole clusters) are all allocated."""
    cluster, entry = options.cluster_size, 16 if options.extended_l2 else 8
    l2_tables = -(-(size // cluster) // (cluster // entry))
    clusters = 1 + l2_tables + -(-l2_tables * _WORD // cluster)
    table, blocks = refcount_clusters(clusters + size // cluster, cluster * 8 // options.refcount_bits, cluster)
    return (clusters + table + blocks) * cluster


def _clusters_with_data(reading: Reading, cluster_size: int) -> int:
    """Returns the number of clusters with data in a copy."""
    hollow = any(layer.metadata_preallocated() for layer in reading.layers)
    told = None if hollow else reading.units_with_data(cluster_size)
    if told is not None:
        return told
    count, done = 0, -1
    for start, length in _ranges_in_use(reading) if hollow else _ranges_with_data(reading):
        first, last = start // cluster_size, (start + length - 1) // cluster_size
        count += last - first + (first != done)
        done = last
    return count


def _ranges_with_data(reading: Reading) -> Iterator[tuple[int, int]]:
    """Yields (start, length) of what is data, in order."""
    for rows in reading.batches():
        yield from ((start, length) for start, length, _, _, kind in rows if kind in (DATA, COMPRESSED))


def _ranges_in_use(reading: Reading) -> Iterator[tuple[int, int]]:
    """Yields (start, length) of what is data and lies in no hole of its file, in order: metadata may be preallocated."""
    yield from ((entry.start, entry.length) for entry in entries(reading) if entry.data and not entry.zero)


def _bytes_for_bitmaps(bitmaps: Iterable[Bitmap], size: int, cluster_size: int) -> int:
    """Returns the bytes that the persistent bitmaps of a disk of `size` bytes need if every bit of them is stored."""
    total = directory = 0
    for bitmap in bitmaps:
        content = -(-size // (bitmap.granularity * 8))
        clusters = -(-content // cluster_size)
        total += (clusters + -(-clusters * _WORD // cluster_size)) * cluster_size
        directory += _round_up(ENTRY.size + len(bitmap.name.encode("utf-8", "surrogateescape")), 8)
    return total + _round_up(directory, cluster_size)


def _round_up(number: int, unit: int) -> int:
    return -(-number // unit) * unit
