"""Where a conversion puts guest bytes: a new raw file, a new qcow2 image, or an image that exists already.

A sink is given lots (see `ops.lots`) in guest order; their ranges begin at multiples of its `alignment`, and end there or at the
disk's end. `prepare` runs on a loading thread and finds out all that needs only the bytes; `put` decides the places and returns
the writing itself as a job for a thread; `finish` completes the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from cowherd import extents as ext
from cowherd.extents import Ranges
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.builder import Builder
from cowherd.formats.qcow2.compression import codec
from cowherd.formats.qcow2.header import Header
from cowherd.formats.qcow2.image import Qcow2
from cowherd.image.disk import Disk
from cowherd.ops.copying import nonzero_units, runs_of
from cowherd.ops.flow import WriteJob
from cowherd.storage.copying import FileRanges, put
from cowherd.storage.hostfile import HostFile

Mask = NDArray[np.bool_]

_LEAST_PEEKED = 32 << 10
"""Bytes of the smallest unit of which reading one word is worth a system call."""


class Prepared(NamedTuple):
    """The bytes of a lot, one range behind the other, and what is known of their units.

    `nonzero` says which are not all zeros, None that all are taken for data. `compressed` are their compressed forms if asked
    for, None for one of zeros and for one that does not shrink.
    """

    data: memoryview | FileRanges
    nonzero: Mask | None
    compressed: Sequence[bytes | None] = ()


class Sink(Protocol):
    """A conversion's target."""

    alignment: int
    """Ranges begin at multiples of this, and end there or at the disk's end."""

    keeps_zeros: bool
    """Whether `zero` has anything to do; else it need not be called."""

    def prepare(self, data: memoryview) -> Prepared:
        """Looks at a lot's bytes; may run on any thread."""
        ...

    def takes_from(self, file: HostFile) -> bool:
        """Whether the kernel is to copy long runs from that file, see `prepare_ranges`, which need not be read for that."""
        ...

    def prepare_ranges(self, data: FileRanges) -> Prepared:
        """Does what `prepare` does for ranges that are whole units, of files for which `takes_from` is true."""
        ...

    def put(self, ranges: Ranges, lot: Prepared) -> WriteJob | None:
        """Decides where the bytes of `ranges` go, and returns their writing as a job, or None if it is done."""
        ...

    def zero(self, start: int, end: int) -> None:
        """Makes [start, end) read as zeros; called in guest order, too."""
        ...

    def sharing(self) -> HostFile | None:
        """Returns the file whose blocks may be shared with a source's, or None where bytes must be moved."""
        ...

    def finish(self) -> None:
        """Completes the target and makes it durable."""
        ...


def _prepare(data: memoryview, unit: int) -> Prepared:
    """Looks for zeros in units of `unit` bytes; 0 means not to look, and to take all for data."""
    return Prepared(data, nonzero_units(data, unit) if unit else None)


class _ReadsAll:
    """What is the same for all sinks for which every byte is read."""

    def takes_from(self, file: HostFile) -> bool:
        """No: see `Sink.takes_from`."""
        return False

    def prepare_ranges(self, data: FileRanges) -> Prepared:
        """Never called, since nothing is taken from files."""
        raise AssertionError("this target's lots are read")


class RawFile(_ReadsAll):
    """A new raw file, empty but of full length: what is not written is a hole."""

    def __init__(self, file: HostFile, sparse_size: int):
        self.file, self.unit = file, sparse_size
        self.alignment = sparse_size or 4096
        self.keeps_zeros = not sparse_size

    def prepare(self, data: memoryview) -> Prepared:
        """Finds the zeros in a lot."""
        return _prepare(data, self.unit)

    def put(self, ranges: Ranges, lot: Prepared) -> WriteJob | None:
        """Places a lot; see `Sink.put`."""
        writes = _runs_in(ranges, lot.nonzero, self.unit)
        return partial(_write, self.file, writes, lot.data) if writes else None

    def zero(self, start: int, end: int) -> None:
        """Makes a range read as zeros; see `Sink.zero`."""
        if self.keeps_zeros:  # a fully allocated target was asked for
            self.file.preallocate(start, end - start)

    def sharing(self) -> HostFile | None:
        """The file itself, unless it is to be fully allocated; see `Sink.sharing`."""
        return self.file if self.unit else None

    def finish(self) -> None:
        """Completes the target and makes it durable."""
        self.file.flush()


Writes = list[tuple[int, int, int]]
"""Where bytes [first, end) of a lot go: (offset in the file, first, end)."""


def _runs_in(ranges: Ranges, nonzero: Mask | None, unit: int) -> Writes:
    """Returns the runs of data in a lot, each inside one range, with their guest offsets."""
    length = ranges[:, 1] - ranges[:, 0]
    end = np.cumsum(length)
    if nonzero is None or nonzero.all():
        return list(zip(ranges[:, 0].tolist(), (end - length).tolist(), end.tolist(), strict=True))
    begin = (end - length) // unit  # as units, of which only the very last may be a part of one
    opens = np.zeros(len(nonzero) + 1, np.bool_)
    opens[begin] = opens[-1] = True
    first = np.flatnonzero(nonzero & (opens[:-1] | ~np.concatenate(([False], nonzero[:-1]))))
    last = np.flatnonzero(nonzero & (opens[1:] | ~np.concatenate((nonzero[1:], [False])))) + 1
    owner = np.searchsorted(begin, first, side="right") - 1
    guest = ranges[owner, 0] + (first - begin[owner]) * unit
    return list(zip(guest.tolist(), (first * unit).tolist(), np.minimum(last * unit, end[-1]).tolist(), strict=True))


def _write(file: HostFile, writes: Writes, data: memoryview | FileRanges) -> None:
    for offset, first, end in writes:
        put(file, offset, data[first:end])
    if isinstance(data, memoryview):
        last, first, end = writes[-1]
        file.start_writing(writes[0][0], last + end - first - writes[0][0])


class NewQcow2:
    """A new qcow2 image without a backing file: clusters of zeros are left out."""

    def __init__(self, file: HostFile, header: Header, *, keeps_zeros: bool = False):
        self.file, self.builder = file, Builder(file, header)
        self.cluster_size = self.alignment = header.cluster_size
        self.keeps_zeros = keeps_zeros
        self.unit = 0 if keeps_zeros else header.subcluster_size

    def prepare(self, data: memoryview) -> Prepared:
        """Finds the zeros in a lot."""
        return _prepare(data, self.unit)

    def takes_from(self, file: HostFile) -> bool:
        """Yes, from a file near by if clusters are large: those whose first word tells that they hold data are not read."""
        return file.device == self.file.device and self.unit >= _LEAST_PEEKED

    def prepare_ranges(self, data: FileRanges) -> Prepared:
        """Finds the zeros in a lot; see `Sink.prepare_ranges`."""
        nonzero: Mask = np.frombuffer(data.words(self.unit), np.uint64) != 0
        scratch = memoryview(bytearray(self.unit))
        for index in np.flatnonzero(~nonzero).tolist():
            data.readinto(index * self.unit, scratch)
            nonzero[index] = np.frombuffer(scratch, np.uint64).any()
        return Prepared(data, nonzero)

    def put(self, ranges: Ranges, lot: Prepared) -> WriteJob | None:
        """Places a lot; see `Sink.put`."""
        clusters = ext.numbers(ranges, self.cluster_size)
        if lot.nonzero is None:
            return partial(_write, self.file, [(self.builder.place(clusters), 0, len(lot.data))], lot.data)
        units = self._by_cluster(lot.nonzero, len(clusters))
        used: Mask = np.logical_or.reduce(units, axis=1)
        if not used.any():
            return None
        host = self.builder.place(clusters[used], self._bitmaps(units[used]))
        writes: Writes = []
        for first, end, holds in runs_of(used):
            if holds:
                writes.append((host, first * self.cluster_size, min(end * self.cluster_size, len(lot.data))))
                host += (end - first) * self.cluster_size
        return partial(_write, self.file, writes, lot.data)

    def zero(self, start: int, end: int) -> None:
        """Makes a range read as zeros; see `Sink.zero`."""
        if self.keeps_zeros:
            first, last = start // self.cluster_size, -(-end // self.cluster_size)
            if first < last:
                host = self.builder.place_data(first, last - first)
                self.file.preallocate(host, (last - first) * self.cluster_size)

    def sharing(self) -> HostFile | None:
        """The file itself, unless it is to be fully allocated; see `Sink.sharing`."""
        return None if self.keeps_zeros else self.file

    def finish(self) -> None:
        """Completes the target and makes it durable."""
        self.builder.finish()

    def _by_cluster(self, nonzero: Mask, clusters: int) -> Mask:
        """Returns which units of each cluster hold data; what the last one lacks is zeros."""
        per_cluster = self.cluster_size // self.unit
        units = np.zeros(clusters * per_cluster, np.bool_)
        units[: len(nonzero)] = nonzero
        return units.reshape(clusters, per_cluster)

    def _bitmaps(self, units: Mask) -> NDArray[np.uint64] | None:
        if not self.builder.header.extended_l2:
            return None
        weights = np.uint64(1) << np.arange(layout.SUBCLUSTERS, dtype=np.uint64)
        bitmaps: NDArray[np.uint64] = (units * weights).sum(axis=1, dtype=np.uint64)
        return bitmaps


class NewCompressedQcow2(_ReadsAll):
    """A new qcow2 image of compressed clusters: those of a lot are packed, and those that do not shrink follow."""

    keeps_zeros = False

    def __init__(self, file: HostFile, header: Header):
        self.file, self.builder = file, Builder(file, header)
        self.cluster_size = self.alignment = header.cluster_size
        self.codec = codec(header.compression)

    def prepare(self, data: memoryview) -> Prepared:
        """Finds the zeros in a lot, and compresses the rest."""
        nonzero = nonzero_units(data, self.cluster_size)
        compressed = [self._compress(data, index) if found else None for index, found in enumerate(nonzero.tolist())]
        return Prepared(data, nonzero, compressed)

    def put(self, ranges: Ranges, lot: Prepared) -> WriteJob | None:
        """Places a lot; see `Sink.put`."""
        assert isinstance(lot.data, memoryview)
        assert lot.nonzero is not None
        clusters = ext.numbers(ranges, self.cluster_size)
        lengths = np.array([0 if compressed is None else len(compressed) for compressed in lot.compressed])
        tables = clusters // self.builder.header.l2_entries
        borders = [0, *(np.flatnonzero(np.diff(tables)) + 1).tolist(), len(clusters)]
        writes: list[tuple[int, bytes | memoryview]] = []
        for begin, end in pairwise(borders):  # a table is written when the next one is begun
            packed = begin + np.flatnonzero(lengths[begin:end])
            plain = begin + np.flatnonzero(lot.nonzero[begin:end] & (lengths[begin:end] == 0))
            if len(packed):
                hosts = self.builder.place_packed(clusters[packed], lengths[packed]).tolist()
                writes += zip(hosts, (lot.compressed[index] or b"" for index in packed.tolist()), strict=True)
            if len(plain):
                host = self.builder.place(clusters[plain])
                places = range(host, host + len(plain) * self.cluster_size, self.cluster_size)
                writes += zip(places, (self._cluster(lot.data, index) for index in plain.tolist()), strict=True)
        return partial(self._write, writes) if writes else None

    def zero(self, start: int, end: int) -> None:
        """Nothing is to be done: what is not mapped reads as zeros."""

    def sharing(self) -> HostFile | None:
        """None: what is compressed has bytes of its own."""
        return None

    def finish(self) -> None:
        """Completes the target and makes it durable."""
        self.builder.finish()

    def _cluster(self, data: memoryview, index: int) -> memoryview:
        return data[index * self.cluster_size : (index + 1) * self.cluster_size]

    def _compress(self, data: memoryview, index: int) -> bytes | None:
        size = self.cluster_size
        cluster = self._cluster(data, index)
        compressed = self.codec.compress(cluster if len(cluster) == size else bytes(cluster).ljust(size, b"\0"))
        return compressed if len(compressed) < size else None

    def _write(self, writes: list[tuple[int, bytes | memoryview]]) -> None:
        """Writes neighbours together: packed clusters are small."""
        batch: list[bytes | memoryview] = []
        begin = end = -1
        for host, data in writes:
            if host != end:
                if batch:
                    self.file.pwritev(begin, batch)
                batch, begin = [], host
            batch.append(data)
            end = host + len(data)
        self.file.pwritev(begin, batch)
        self.file.start_writing(writes[0][0], end - writes[0][0])


def _whole_units(least: int, unit: int) -> int:
    """Returns the fewest bytes from `least` up that are made of whole units; 0 stands for no units."""
    return -(-least // unit) * unit if unit else least


class ExistingImage(_ReadsAll):
    """An image that exists already, or a new overlay: written through its own tables."""

    keeps_zeros = True

    def __init__(self, disk: Disk, *, sparse_size: int, compress: bool = False, is_zero: bool = False, backing_size: int = 0):
        """`is_zero` says that the target reads as zeros behind its backing file's `backing_size` bytes."""
        self.disk, self.compress = disk, compress
        self.is_zero, self.backing_size = is_zero, backing_size
        layer = disk.layers[0]
        self.qcow2 = layer if isinstance(layer, Qcow2) else None
        self.alignment = self.qcow2.header.cluster_size if self.qcow2 and compress else _whole_units(4096, sparse_size)
        self.unit = self.alignment if compress else sparse_size

    def prepare(self, data: memoryview) -> Prepared:
        """Finds the zeros in a lot."""
        return _prepare(data, self.unit)

    def put(self, ranges: Ranges, lot: Prepared) -> WriteJob | None:
        """Places a lot; see `Sink.put`."""
        assert isinstance(lot.data, memoryview)
        for guest, first, end in _runs_in(ranges, lot.nonzero, self.unit):
            write = self.disk.write_compressed if self.compress and self.qcow2 else self.disk.write
            write(guest, lot.data[first:end])
        if lot.nonzero is not None:
            for guest, first, end in _runs_in(ranges, ~lot.nonzero, self.unit):
                self.zero(guest, guest + end - first)
        return None

    def zero(self, start: int, end: int) -> None:
        """Makes a range read as zeros; see `Sink.zero`."""
        if self.is_zero:
            end = min(end, self.backing_size)
        if start < end:
            self.disk.zero(start, end - start)

    def sharing(self) -> HostFile | None:
        """None: its tables decide where bytes go."""
        return None

    def finish(self) -> None:
        """Completes the target and makes it durable."""
        self.disk.flush()
