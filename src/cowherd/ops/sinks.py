"""Where a conversion puts guest bytes: a new raw file, a new qcow2 image, or an image that exists already.

A sink is given chunks in guest order, aligned to its `alignment`. `prepare` runs on a loading thread and finds out all that
needs only the chunk's bytes; `put` decides the places and returns the writing itself as a job for a thread; `finish` completes
the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.builder import Builder
from cowherd.formats.qcow2.compression import codec
from cowherd.formats.qcow2.header import Header
from cowherd.formats.qcow2.image import Qcow2
from cowherd.image.disk import Disk
from cowherd.ops.copying import WriteJob, nonzero_units, runs_of
from cowherd.storage.copying import Bytes, FileRange, put
from cowherd.storage.hostfile import HostFile

_LEAST_PEEKED = 32 << 10
"""Bytes of the smallest unit of which reading one word is worth a system call."""


@dataclass(frozen=True)
class Prepared:
    """A loaded chunk and what is known of its units: which are not all zeros, and their compressed forms if asked for.

    `compressed[i]` is None for a cluster of zeros and for one that does not shrink.
    """

    data: Bytes
    nonzero: NDArray[np.bool_]
    compressed: tuple[bytes | None, ...] = ()


class Sink(Protocol):
    """A conversion's target."""

    alignment: int
    """Chunks start at multiples of this, and end there or at the disk's end."""

    def prepare(self, data: memoryview) -> Prepared:
        """Looks at a chunk's bytes; may run on any thread."""
        ...

    def prepare_range(self, data: FileRange, scratch: memoryview) -> Prepared | None:
        """Does the same for a chunk that a file holds in one piece, which can be copied from there; None if it must be read.

        `scratch` is memory of the chunk's length.
        """
        ...

    def put(self, start: int, chunk: Prepared) -> WriteJob | None:
        """Decides where the chunk from guest byte `start` on goes, and returns its writing as a job, or None if it is done."""
        ...

    def zero(self, start: int, end: int) -> None:
        """Makes [start, end) read as zeros; called in guest order, too."""
        ...

    def sharing(self) -> HostFile | None:
        """Returns the file whose blocks may be shared with a source's (see `place`), or None where bytes must be moved."""
        ...

    def place(self, start: int, end: int) -> int:
        """Decides where the whole units [start, end) go in one piece; returns the file offset. Called in guest order, too."""
        ...

    def finish(self) -> None:
        """Completes the target and makes it durable."""
        ...


def _prepare(data: memoryview, unit: int) -> Prepared:
    """Looks for zeros in units of `unit` bytes; 0 means not to look, and to take all for data."""
    return Prepared(data, nonzero_units(data, unit) if unit else np.ones(1, np.bool_))


def _first_words(data: FileRange, unit: int) -> NDArray[np.bool_]:
    """Returns which units of `unit` bytes begin with anything but a word of zeros, and so hold data."""
    words = b"".join(data.file.pread(data.offset + start, 8) for start in range(0, len(data), unit))
    found: NDArray[np.bool_] = np.frombuffer(words, np.uint64) != 0
    return found


class RawFile:
    """A new raw file, empty but of full length: what is not written is a hole."""

    def __init__(self, file: HostFile, sparse_size: int):
        self.file, self.unit = file, sparse_size
        self.alignment = sparse_size or 4096

    def prepare(self, data: memoryview) -> Prepared:
        """Finds the zeros in a chunk."""
        return _prepare(data, self.unit)

    def prepare_range(self, data: FileRange, scratch: memoryview) -> Prepared | None:
        """None: every unit may become a hole, so all of it is read, and written from the cache sooner than from the file."""
        return None

    def put(self, start: int, chunk: Prepared) -> WriteJob | None:
        """Places a chunk; see `Sink.put`."""
        return partial(self._write, start, chunk)

    def zero(self, start: int, end: int) -> None:
        """Makes a range read as zeros; see `Sink.zero`."""
        if not self.unit:  # a fully allocated target was asked for
            self.file.preallocate(start, end - start)

    def sharing(self) -> HostFile | None:
        """The file itself, unless it is to be fully allocated; see `Sink.sharing`."""
        return self.file if self.unit else None

    def place(self, start: int, end: int) -> int:
        """A raw file's bytes lie where the guest sees them; see `Sink.place`."""
        return start

    def finish(self) -> None:
        """Completes the target and makes it durable."""
        self.file.flush()

    def _write(self, start: int, chunk: Prepared) -> None:
        unit = self.unit or len(chunk.data)
        for first, end, nonzero in runs_of(chunk.nonzero):
            if nonzero:
                put(self.file, start + first * unit, chunk.data[first * unit : end * unit])


class NewQcow2:
    """A new qcow2 image without a backing file: clusters of zeros are left out."""

    def __init__(self, file: HostFile, header: Header, *, keep_zeros: bool = False):
        self.file, self.builder = file, Builder(file, header)
        self.cluster_size = self.alignment = header.cluster_size
        self.unit = 0 if keep_zeros else header.subcluster_size

    def prepare(self, data: memoryview) -> Prepared:
        """Finds the zeros in a chunk."""
        return _prepare(data, self.unit)

    def prepare_range(self, data: FileRange, scratch: memoryview) -> Prepared | None:
        """Finds the zeros in a chunk that a file near by holds; clusters whose first word tells are not read."""
        if data.file.device != self.file.device or self.unit < _LEAST_PEEKED or len(data) % self.unit:
            return None
        nonzero = _first_words(data, self.unit)
        for index in np.flatnonzero(~nonzero).tolist():
            data.file.preadinto(data.offset + index * self.unit, scratch[: self.unit])
            nonzero[index] = np.frombuffer(scratch[: self.unit], np.uint64).any()
        return Prepared(data, nonzero)

    def put(self, start: int, chunk: Prepared) -> WriteJob | None:
        """Places a chunk; see `Sink.put`."""
        per_cluster = self.cluster_size // (self.unit or self.cluster_size)
        clusters = -(-len(chunk.data) // self.cluster_size)
        units = np.ones(clusters * per_cluster, np.bool_)
        if self.unit:
            units[len(chunk.nonzero) :] = False
            units[: len(chunk.nonzero)] = chunk.nonzero
        by_cluster = units.reshape(clusters, per_cluster)
        used: NDArray[np.bool_] = np.logical_or.reduce(by_cluster, axis=1)
        base = start // self.cluster_size
        writes = [
            (self._place(base, first, end, by_cluster), first * self.cluster_size, end * self.cluster_size)
            for first, end, nonzero in runs_of(used)
            if nonzero
        ]
        return partial(self._write, writes, chunk.data) if writes else None

    def zero(self, start: int, end: int) -> None:
        """Makes a range read as zeros; see `Sink.zero`."""
        if not self.unit:
            first, last = start // self.cluster_size, -(-end // self.cluster_size)
            if first < last:
                host = self.builder.place_data(first, last - first)
                self.file.preallocate(host, (last - first) * self.cluster_size)

    def sharing(self) -> HostFile | None:
        """The file itself, unless it is to be fully allocated; see `Sink.sharing`."""
        return self.file if self.unit else None

    def place(self, start: int, end: int) -> int:
        """Takes clusters for a range of data; see `Sink.place`."""
        return self.builder.place_data(start // self.cluster_size, -(-(end - start) // self.cluster_size))

    def finish(self) -> None:
        """Completes the target and makes it durable."""
        self.builder.finish()

    def _place(self, base: int, first: int, end: int, units: NDArray[np.bool_]) -> int:
        bitmaps = None
        if self.builder.header.extended_l2 and self.unit:
            weights = np.uint64(1) << np.arange(layout.SUBCLUSTERS, dtype=np.uint64)
            bitmaps = (units[first:end] * weights).sum(axis=1, dtype=np.uint64)
        return self.builder.place_data(base + first, end - first, bitmaps)

    def _write(self, writes: list[tuple[int, int, int]], data: Bytes) -> None:
        for host, first, end in writes:
            put(self.file, host, data[first:end])


class NewCompressedQcow2:
    """A new qcow2 image of compressed clusters, packed in guest order."""

    unit = 0

    def __init__(self, file: HostFile, header: Header):
        self.file, self.builder = file, Builder(file, header)
        self.cluster_size = self.alignment = header.cluster_size
        self.codec = codec(header.compression)

    def prepare(self, data: memoryview) -> Prepared:
        """Finds the zeros in a chunk."""
        nonzero = nonzero_units(data, self.cluster_size)
        compressed = tuple(self._compress(data, index) if found else None for index, found in enumerate(nonzero))
        return Prepared(data, nonzero, compressed)

    def prepare_range(self, data: FileRange, scratch: memoryview) -> Prepared | None:
        """None: its chunks must be read."""
        return None

    def put(self, start: int, chunk: Prepared) -> WriteJob | None:
        """Places a chunk; see `Sink.put`."""
        assert isinstance(chunk.data, memoryview)
        size = self.cluster_size
        writes: list[tuple[int, bytes | memoryview]] = []
        for index, compressed in enumerate(chunk.compressed):
            cluster = start // size + index
            if compressed is not None:
                writes.append((self.builder.place_compressed(cluster, len(compressed)), compressed))
            elif chunk.nonzero[index]:
                writes.append((self.builder.place_data(cluster, 1), chunk.data[index * size : (index + 1) * size]))
        return partial(self._write, writes) if writes else None

    def zero(self, start: int, end: int) -> None:
        """Nothing is to be done: what is not mapped reads as zeros."""

    def sharing(self) -> HostFile | None:
        """None: what is compressed has bytes of its own."""
        return None

    def place(self, start: int, end: int) -> int:
        """Never called, since nothing is shared."""
        raise AssertionError("nothing is shared with this target")

    def finish(self) -> None:
        """Completes the target and makes it durable."""
        self.builder.finish()

    def _compress(self, data: memoryview, index: int) -> bytes | None:
        size = self.cluster_size
        cluster = data[index * size : (index + 1) * size]
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


class ExistingImage:
    """An image that exists already, or a new overlay: written through its own tables."""

    def __init__(self, disk: Disk, *, sparse_size: int, compress: bool = False, is_zero: bool = False, backing_size: int = 0):
        """`is_zero` says that the target reads as zeros behind its backing file's `backing_size` bytes."""
        self.disk, self.compress = disk, compress
        self.is_zero, self.backing_size = is_zero, backing_size
        layer = disk.layers[0]
        self.qcow2 = layer if isinstance(layer, Qcow2) else None
        self.alignment = self.qcow2.header.cluster_size if self.qcow2 and compress else max(4096, sparse_size)
        self.unit = self.alignment if compress else sparse_size

    def prepare(self, data: memoryview) -> Prepared:
        """Finds the zeros in a chunk."""
        return _prepare(data, self.unit)

    def prepare_range(self, data: FileRange, scratch: memoryview) -> Prepared | None:
        """None: its chunks must be read."""
        return None

    def put(self, start: int, chunk: Prepared) -> WriteJob | None:
        """Places a chunk; see `Sink.put`."""
        assert isinstance(chunk.data, memoryview)
        unit = self.unit or len(chunk.data)
        for first, end, nonzero in runs_of(chunk.nonzero):
            piece = chunk.data[first * unit : end * unit]
            if not nonzero:
                self.zero(start + first * unit, start + first * unit + len(piece))
            elif self.compress and self.qcow2:
                self.disk.write_compressed(start + first * unit, piece)
            else:
                self.disk.write(start + first * unit, piece)
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

    def place(self, start: int, end: int) -> int:
        """Never called, since nothing is shared."""
        raise AssertionError("nothing is shared with this target")

    def finish(self) -> None:
        """Completes the target and makes it durable."""
        self.disk.flush()
