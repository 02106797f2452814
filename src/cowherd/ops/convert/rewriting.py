"""Targets of a conversion that have tables already: an existing image, or a new overlay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.formats import registry
from cowherd.image.disk import Disk
from cowherd.ops.convert.sinks import Prepared, ReadsAll, prepare, runs_in
from cowherd.ops.flow import WriteJob
from cowherd.storage.hostfile import HostFile

if TYPE_CHECKING:
    from cowherd.image.rows import Ranges


def _whole_units(least: int, unit: int) -> int:
    """Returns `least` rounded up to whole units; with `unit` 0, `least` itself."""
    return -(-least // unit) * unit if unit else least


class ExistingImage(ReadsAll):
    """An existing image, or a new overlay: written through its own tables."""

    keeps_zeros = True

    def __init__(self, disk: Disk, *, sparse_size: int, compress: bool = False, is_zero: bool = False, backing_size: int = 0):
        """`is_zero`: the target already reads as zeros past its backing file's `backing_size` bytes."""
        self.disk = disk
        self.compress = compress and registry.named(disk.format).compressed
        self.is_zero, self.backing_size = is_zero, backing_size
        self.alignment = disk.layers[0].cluster_size if self.compress else _whole_units(4096, sparse_size)
        self.unit = self.alignment if compress else sparse_size

    def prepare(self, data: memoryview) -> Prepared:
        """Finds the zeros in a batch."""
        return prepare(data, self.unit)

    def put(self, ranges: Ranges, batch: Prepared) -> WriteJob | None:
        """Places a batch; see `Sink.put`."""
        assert isinstance(batch.data, memoryview)
        for guest, first, end in runs_in(ranges, batch.nonzero, self.unit):
            write = self.disk.write_compressed if self.compress else self.disk.write
            write(guest, batch.data[first:end])
        if batch.nonzero is not None:
            for guest, first, end in runs_in(ranges, batch.nonzero, self.unit, zeros=True):
                self.zero(guest, guest + end - first)
        return None

    def zero(self, start: int, end: int) -> None:
        """Makes a range read as zeros; see `Sink.zero`."""
        if self.is_zero:
            end = min(end, self.backing_size)
        if start < end:
            self.disk.zero(start, end - start)

    def sharing(self) -> HostFile | None:
        """Returns None, since the image's tables decide where bytes go."""
        return None

    def finish(self) -> None:
        """Completes the target and makes it durable."""
        self.disk.flush()
