"""New files as targets of a conversion: raw or qcow2. `cowherd.ops.convert.sink` describes the methods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby

from cowherd.formats.qcow2.builder import Builder, Run
from cowherd.formats.qcow2.compression import codec
from cowherd.formats.qcow2.header import Header
from cowherd.ops.flow import WriteJob
from cowherd.storage.buffers import nonzero_by_first_words, nonzero_units, runs_of
from cowherd.storage.copying import FileRanges, has_copies_of_its_own, put
from cowherd.storage.hostfile import HostFile
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.image.rows import Ranges

_LEAST_PEEKED = 32 << 10
"""Bytes of the smallest unit for which it pays to read its first word with a system call of its own."""


class Prepared(NamedTuple):
    """The bytes of a batch, its ranges joined, and what is known of their units.

    `nonzero` has 1 for each unit that is not all zeros, else 0; None counts all units as data. `compressed` has the compressed
    form of each unit, or None for a unit that is zeros or does not shrink; it is empty if nothing is compressed.
    """

    data: memoryview | FileRanges
    nonzero: bytes | None
    compressed: Sequence[bytes | None] = ()


def prepare(data: memoryview, unit: int) -> Prepared:
    """Looks for zeros in units of `unit` bytes; with 0 it does not look, and counts everything as data."""
    return Prepared(data, nonzero_units(data, unit) if unit else None)


class ReadsAll:
    """The methods of sinks for which every byte is read."""

    def takes_from(self, file: HostFile) -> bool:
        """Returns False; see `Sink.takes_from`."""
        return False

    def prepare_ranges(self, data: FileRanges) -> Prepared:
        """Never called, since `takes_from` is always False."""
        raise AssertionError("this target's batches are read")


class RawFile(ReadsAll):
    """A new raw file of full length that starts as one hole; ranges that are not written stay holes."""

    def __init__(self, file: HostFile, sparse_size: int):
        self.file, self.unit = file, sparse_size
        self.alignment = sparse_size or 4096
        self.keeps_zeros = not sparse_size

    def prepare(self, data: memoryview) -> Prepared:
        """Finds the zeros in a batch."""
        return prepare(data, self.unit)

    def put(self, ranges: Ranges, batch: Prepared) -> WriteJob | None:
        """Places a batch; see `Sink.put`."""
        writes = runs_in(ranges, batch.nonzero, self.unit)
        return partial(_write, self.file, writes, batch.data) if writes else None

    def zero(self, start: int, end: int) -> None:
        """Makes a range read as zeros; see `Sink.zero`."""
        if self.keeps_zeros:  # the caller asked for a fully allocated target
            self.file.preallocate(start, end - start)

    def sharing(self) -> HostFile | None:
        """The file itself, unless it is to be fully allocated; see `Sink.sharing`."""
        return self.file if self.unit else None

    def finish(self) -> None:
        """Completes the target and makes it durable."""
        self.file.flush()


class RawDevice(RawFile):
    """The beginning of a block device. It may hold old data, so zeros must be written too, or their ranges discarded."""

    def __init__(self, file: HostFile, sparse_size: int):
        super().__init__(file, sparse_size)
        self.keeps_zeros = True

    def put(self, ranges: Ranges, batch: Prepared) -> WriteJob | None:
        """Places a batch; see `Sink.put`."""
        if batch.nonzero is not None:
            for offset, first, end in runs_in(ranges, batch.nonzero, self.unit, zeros=True):
                self.zero(offset, offset + end - first)
        return super().put(ranges, batch)

    def zero(self, start: int, end: int) -> None:
        """Makes a range read as zeros; see `Sink.zero`."""
        self.file.write_zeros(start, end - start, unmap=bool(self.unit))

    def sharing(self) -> HostFile | None:
        """Returns None, since a device shares no blocks with files."""
        return None


Writes = list[tuple[int, int, int]]
"""Places for bytes [first, end) of a batch: (offset in the file, first, end)."""


def runs_in(ranges: Ranges, nonzero: bytes | None, unit: int, *, zeros: bool = False) -> Writes:
    """Returns the runs of data in a batch, or with `zeros` those of zeros; each lies inside one range, at its guest offset."""
    found: Writes = []
    done = 0
    for start, end in ranges:
        length = end - start
        if nonzero is None:
            found.append((start, done, done + length))
        else:
            begin = done // unit  # ranges are whole units, except that the very last one may be shorter
            for first, last, holds in runs_of(nonzero[begin : -(-(done + length) // unit)]):
                if holds != zeros:
                    found.append((start + first * unit, done + first * unit, done + min(last * unit, length)))
        done += length
    return found


def _write(file: HostFile, writes: Writes, data: memoryview | FileRanges) -> None:
    for offset, first, end in writes:
        put(file, offset, data[first:end])
    last, first, end = writes[-1]
    file.start_writing(writes[0][0], last + end - first - writes[0][0])


class NewQcow2:
    """A new qcow2 image without a backing file; clusters of zeros are not stored."""

    def __init__(self, file: HostFile, header: Header, *, keeps_zeros: bool = False):
        self.file, self.builder = file, Builder(file, header)
        self.cluster_size = self.alignment = header.cluster_size
        self.keeps_zeros = keeps_zeros
        self.unit = 0 if keeps_zeros else header.subcluster_size

    def prepare(self, data: memoryview) -> Prepared:
        """Finds the zeros in a batch."""
        return prepare(data, self.unit)

    def takes_from(self, file: HostFile) -> bool:
        """Returns True for a file on the same file system, if that has means of its own, and if units are large.

        Then only the first word of most of them must be read.
        """
        return file.device == self.file.device and has_copies_of_its_own(file) and self.unit >= _LEAST_PEEKED

    def prepare_ranges(self, data: FileRanges) -> Prepared:
        """Finds the zeros in a batch; see `Sink.prepare_ranges`."""
        scratch = memoryview(bytearray(self.unit))

        def read(index: int) -> memoryview:
            data.readinto(index * self.unit, scratch)
            return scratch

        return Prepared(data, nonzero_by_first_words(memoryview(data.words(self.unit)).cast("Q"), read))

    def put(self, ranges: Ranges, batch: Prepared) -> WriteJob | None:
        """Places a batch; see `Sink.put`."""
        used = self._clusters_in_use(batch)
        if 1 not in used:
            return None
        bitmaps = None if batch.nonzero is None else self._bitmaps(batch.nonzero)
        host = self.builder.place(list(_used_runs(ranges, used, self.cluster_size)), bitmaps)
        writes: Writes = []
        for first, end, holds in runs_of(used):
            if holds:
                writes.append((host, first * self.cluster_size, min(end * self.cluster_size, len(batch.data))))
                host += (end - first) * self.cluster_size
        self._clear_behind(host, len(batch.data) % self.cluster_size if used[-1] else 0)
        return partial(_write, self.file, writes, batch.data)

    def _clear_behind(self, end: int, used: int) -> None:
        """On a device, zeros the rest of the cluster before `end`, of which `used` bytes are written: the disk may grow there."""
        if used and self.file.is_block_device:
            self.file.write_zeros(end - self.cluster_size + used, self.cluster_size - used, unmap=False)

    def zero(self, start: int, end: int) -> None:
        """Makes a range read as zeros; see `Sink.zero`."""
        if self.keeps_zeros:
            first, last = start // self.cluster_size, -(-end // self.cluster_size)
            if first < last:
                host = self.builder.place_data(first, last - first)
                if self.file.is_block_device:
                    self.file.write_zeros(host, (last - first) * self.cluster_size, unmap=False)
                else:
                    self.file.preallocate(host, (last - first) * self.cluster_size)

    def sharing(self) -> HostFile | None:
        """The file itself, unless it is to be fully allocated; see `Sink.sharing`."""
        return None if self.keeps_zeros else self.file

    def finish(self) -> None:
        """Completes the target and makes it durable."""
        self.builder.finish()

    def _clusters_in_use(self, batch: Prepared) -> bytes:
        """Returns 1 or 0 for each cluster: whether it holds data."""
        if batch.nonzero is None:
            return bytes([1]) * -(-len(batch.data) // self.cluster_size)
        return batch.nonzero if self.unit == self.cluster_size else bytes(1 in units for units in self._by_cluster(batch.nonzero))

    def _bitmaps(self, nonzero: bytes) -> list[int] | None:
        """Returns a bitmap of the subclusters with data for each cluster that has any, the first one in the lowest bit."""
        if not self.builder.header.extended_l2:
            return None
        return [int(units[::-1].translate(_DIGITS), 2) for units in self._by_cluster(nonzero) if 1 in units]

    def _by_cluster(self, nonzero: bytes) -> list[bytes]:
        """Returns the marks of each cluster's units; the last cluster may have fewer."""
        per_cluster = self.cluster_size // self.unit
        return [nonzero[begin : begin + per_cluster] for begin in range(0, len(nonzero), per_cluster)]


_DIGITS = bytes.maketrans(b"\0\1", b"01")


def _used_runs(ranges: Ranges, used: bytes, cluster_size: int) -> Iterator[Run]:
    """Yields the runs of guest clusters in `ranges` that are marked in `used`."""
    done = 0
    for start, end in ranges:
        count = -(-(end - start) // cluster_size)
        for first, last, holds in runs_of(used[done : done + count]):
            if holds:
                yield start // cluster_size + first, last - first
        done += count


class _Unit(NamedTuple):
    """A cluster that holds data: its number in the batch, and its number in the disk."""

    number: int
    cluster: int


class NewCompressedQcow2(ReadsAll):
    """A new qcow2 image of compressed clusters: packs those of a batch; clusters that do not shrink follow them."""

    keeps_zeros = False

    def __init__(self, file: HostFile, header: Header):
        self.file, self.builder = file, Builder(file, header)
        self.cluster_size = self.alignment = header.cluster_size
        self.codec = codec(header.compression)

    def prepare(self, data: memoryview) -> Prepared:
        """Finds the zeros in a batch, and compresses the rest."""
        nonzero = nonzero_units(data, self.cluster_size)
        compressed = [self._compress(data, index) if found else None for index, found in enumerate(nonzero)]
        return Prepared(data, nonzero, compressed)

    def put(self, ranges: Ranges, batch: Prepared) -> WriteJob | None:
        """Places a batch; see `Sink.put`."""
        assert isinstance(batch.data, memoryview)
        assert batch.nonzero is not None
        starts = (start for first, end in ranges for start in range(first, end, self.cluster_size))
        units = [_Unit(index, start // self.cluster_size) for index, start in enumerate(starts) if batch.nonzero[index]]
        writes: list[tuple[int, bytes | memoryview]] = []
        for _, group in groupby(units, key=lambda unit: unit.cluster // self.builder.header.l2_entries):
            # One table after the other: the builder writes a table when the next one begins.
            writes += self._place_clusters(list(group), batch.data, batch.compressed)
        return partial(self._write, writes) if writes else None

    def zero(self, start: int, end: int) -> None:
        """Does nothing: clusters that are not mapped read as zeros."""

    def sharing(self) -> HostFile | None:
        """Returns None, since compressed bytes differ from the source's."""
        return None

    def finish(self) -> None:
        """Completes the target and makes it durable."""
        self.builder.finish()

    def _place_clusters(
        self, units: list[_Unit], data: memoryview, compressed: Sequence[bytes | None]
    ) -> Iterator[tuple[int, bytes | memoryview]]:
        """Places the clusters of one L2 table; yields (file offset, bytes) to write."""
        packed = [(unit.cluster, found) for unit in units if (found := compressed[unit.number]) is not None]
        if packed:
            clusters, contents = zip(*packed, strict=True)
            yield from zip(self.builder.place_packed(clusters, [len(content) for content in contents]), contents, strict=True)
        plain = [unit for unit in units if compressed[unit.number] is None]
        if plain:
            host = self.builder.place([(unit.cluster, 1) for unit in plain])
            for number, unit in enumerate(plain):
                cluster = self._cluster(data, unit.number)
                whole = cluster if not self.file.is_block_device else bytes(cluster).ljust(self.cluster_size, b"\0")
                yield host + number * self.cluster_size, whole

    def _cluster(self, data: memoryview, index: int) -> memoryview:
        return data[index * self.cluster_size : (index + 1) * self.cluster_size]

    def _compress(self, data: memoryview, index: int) -> bytes | None:
        size = self.cluster_size
        cluster = self._cluster(data, index)
        compressed = self.codec.compress(cluster if len(cluster) == size else bytes(cluster).ljust(size, b"\0"))
        return compressed if len(compressed) < size else None

    def _write(self, writes: list[tuple[int, bytes | memoryview]]) -> None:
        """Writes neighbours with one call, since packed clusters are small."""
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
