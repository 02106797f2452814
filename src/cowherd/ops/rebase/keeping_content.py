"""Rebases an overlay so that it keeps its content: first writes into it the bytes that the new backing file would change."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cowherd import extents as ext
from cowherd.errors import CowherdError, ImageInUse, InvalidRequest
from cowherd.extents import Extents, Ranges
from cowherd.formats import registry
from cowherd.formats.layer import Layer
from cowherd.formats.reference import BackingReference
from cowherd.image.backing import resolve
from cowherd.image.disk import Disk
from cowherd.image.open import open_disk
from cowherd.ops.flow import flow
from cowherd.ops.rebase.rebased import NewBackingFileError, Rebased
from cowherd.ops.side_by_side import SideBySide, chunks, differing_units, read_gathered
from cowherd.ops.snapshots import exposed_snapshots, require_same
from cowherd.progress import Progress
from cowherd.storage.ahead import reading_ahead
from cowherd.storage.buffers import is_zero
from cowherd.storage.locks import NAMES, WRITE_PERMISSION
from cowherd.storage.opening import open_file, require_host
from cowherd.storage.writeback import WriteBehind
from cowherd.text import printable

if TYPE_CHECKING:
    from cowherd.paths import PathName
    from cowherd.storage.ahead import Stretch
    from cowherd.storage.blocks import Opener

_READ_BYTES = 2 << 20
"""Bytes read from each side at once: few enough for the processor's cache, enough to be worth handing to a thread."""


def rebase_disk(
    overlay: PathName,
    reference: BackingReference | None,
    *,
    format: str | None,
    unsafe: bool,
    compress: bool,
    force_share: bool,
    differs: Ranges | None,
    keep_snapshots: bool,
    without: int | None,
    opener: Opener,
    progress: Progress | None,
) -> Rebased:
    """Does the work of `cowherd.ops.rebase.rebase.rebase`, with the chain open. Raises what that raises."""
    with open_disk(overlay, format=format, writable=True, backing=not unsafe, opener=opener) as disk:
        top = _require_recordable(disk, reference, compress=compress)
        done = Rebased()
        if not unsafe:
            new = None if reference is None else _open_new(disk, reference, opener, force_share=force_share)
            try:
                if keep_snapshots:
                    _require_snapshots_kept(disk, new, differs)
                done = _ContentKeeper(disk, top, new, compress=compress, differs=differs).run(progress)
            finally:
                if new is not None:
                    new.close()
        top.set_backing(reference, without=without)
    return done


def doubtful_bytes(
    overlay: PathName,
    backing: str | None,
    *,
    format: str | None = None,
    backing_format: str | None = None,
    differs: Ranges | None = None,
    opener: Opener = open_file,
) -> int:
    """Returns the number of bytes that a safe rebase with these arguments would compare; it would write no more than these.

    Reads only tables, unless the overlay has internal snapshots. Raises what `cowherd.ops.rebase.rebase.rebase` raises.
    """
    reference = BackingReference(backing, backing_format) if backing else None
    with open_disk(overlay, format=format, opener=opener) as disk:
        top = _require_recordable(disk, reference, compress=False)
        new = None if reference is None else _open_new(disk, reference, opener, force_share=False)
        try:
            _require_snapshots_kept(disk, new, differs)
            return _ContentKeeper(disk, top, new, compress=False, differs=differs).doubtful()
        finally:
            if new is not None:
                new.close()


def _require_recordable(disk: Disk, reference: BackingReference | None, *, compress: bool) -> Layer:
    """Refuses a reference that the header can't record, before any bytes are copied for it. Returns the overlay's own layer."""
    top, can = disk.layers[0], registry.named(disk.format)
    if compress and not can.compressed:
        raise InvalidRequest("Compression not supported for this file format")
    if not can.backing:
        raise _cannot_change(reference, "Operation not supported")
    if reference is not None and reference.format is None:
        raise _cannot_change(reference, "backing format must be specified")
    try:
        top.require_room_for(reference)
    except InvalidRequest as error:
        raise _cannot_change(reference, "No space left in the file header") from error
    return top


def _cannot_change(reference: BackingReference | None, problem: str) -> InvalidRequest:
    name = printable(reference.name) if reference else ""
    return InvalidRequest(f"Could not change the backing file to '{name}': {problem}")


def _require_snapshots_kept(disk: Disk, new: Disk | None, differs: Ranges | None) -> None:
    """Raises `SnapshotsWouldChange` if a snapshot of the overlay shows bytes in which the new backing file differs."""
    exposed = exposed_snapshots(disk.layers, 1, changed=differs)
    if exposed:
        old = Disk(disk.layers[1:], writable=False) if len(disk.layers) > 1 else None
        require_same(disk.layers, "give another base to", exposed, old, new)


def _open_new(disk: Disk, reference: BackingReference, opener: Opener, *, force_share: bool) -> Disk:
    try:
        found = resolve(disk.path, reference)
        new = open_disk(found.name, format=found.format, force_share=force_share, opener=opener)
        try:
            _refuse_overlay(disk, new)
        except BaseException:
            new.close()
            raise
        return new
    except CowherdError as error:
        raise NewBackingFileError(reference.name, error) from error


def _refuse_overlay(disk: Disk, new: Disk) -> None:
    """Raises the error of the overlay's lock if the new backing file is, or stands on, the overlay: an opener may lend it."""
    for layer in new.layers:
        if layer.file.key == disk.layers[0].file.key:
            raise ImageInUse(require_host(layer.file).path, NAMES[WRITE_PERMISSION], shared=True)


class _Group(NamedTuple):
    """Guest ranges that are read and compared at once, in whole units of the overlay, and both sides' extents of them.

    `compress`: write the units that differ as compressed clusters.
    """

    ranges: Ranges
    old: Extents
    new: Extents
    compress: bool


class _Change(NamedTuple):
    """Bytes to write at a guest offset."""

    start: int
    data: memoryview


class _Found(NamedTuple):
    """The changes of a group, and the compared buffers; the first one holds the bytes of the changes."""

    changes: list[_Change]
    buffers: tuple[bytearray, bytearray]


class _ContentKeeper:
    """Writes into an overlay the bytes of its old backing file that its new one does not show."""

    def __init__(self, disk: Disk, top: Layer, new: Disk | None, *, compress: bool, differs: Ranges | None = None):
        self.disk, self.top, self.new, self.compress = disk, top, new, compress
        # Several threads may read the layers under the overlay, which do not change; the overlay's own tables do change.
        self.old = Disk(disk.layers[1:], writable=False) if len(disk.layers) > 1 else None
        self.differs = differs
        self.chunk = max(_READ_BYTES, top.cluster_size)
        self.buffers: deque[tuple[bytearray, bytearray]] = deque()

    def doubtful(self) -> int:
        """Returns the number of bytes to compare."""
        return sum(ext.total(group.ranges) for group in self._groups(self.disk.size))

    def run(self, progress: Progress | None) -> Rebased:
        """Compares and writes everything, and flushes the overlay."""
        size, compared, written = self.disk.size, 0, 0
        behind = WriteBehind(self.top.data.host)

        def store(group: _Group, found: _Found) -> None:
            nonlocal compared, written
            compared += ext.total(group.ranges)
            for change in found.changes:
                self._write(change, compress=group.compress)
                written += len(change.data)
                behind.wrote(len(change.data))
            self.buffers.append(found.buffers)
            if progress is not None:
                progress(int(group.ranges[-1, 1]), size)

        flow(reading_ahead(self._groups(size), self._stretches), self._differences, store)
        self.disk.flush()
        if progress is not None:
            progress(size, size)
        return Rebased(compared, written)

    def _stretches(self, group: _Group) -> Iterator[Stretch]:
        """Yields where files hold the bytes to compare."""
        for disk, held in ((self.old, group.old), (self.new, group.new)):
            if disk is not None:
                yield from disk.stretches(held)

    def _groups(self, size: int) -> Iterator[_Group]:
        both = SideBySide(self.old, self.new)
        for start, end in both.windows(size):
            old, new = both.covers(start, end)
            doubtful = ext.ranges_of(old[~both.known_equal(old, new)])
            if self.differs is not None:
                doubtful = ext.intersect(doubtful, self.differs)
            for ranges, compress in self._whole_units(doubtful, self._owned(start, end)):
                cut = np.array(list(chunks(ranges, self.chunk)), np.int64).reshape(-1, 2)
                yield from _grouped(cut, ext.restrict(old, cut), ext.restrict(new, cut), self.chunk, compress=compress)

    def _owned(self, start: int, end: int) -> Ranges:
        """Returns the ranges that the overlay holds itself."""
        found = [ext.ranges_of(part[part["kind"] != ext.BACKING]) for part in self.disk.extents(start, end - start, depth=1)]
        return ext.normalised(np.concatenate(found))

    def _whole_units(self, doubtful: Ranges, owned: Ranges) -> Iterator[tuple[Ranges, bool]]:
        """Yields the parts of `doubtful` that the overlay leaves to its backing file, in whole units, and whether to compress
        them.

        A cluster of which the overlay holds some subclusters can't be replaced by a compressed one.
        """
        left = ext.subtract(doubtful, owned)
        plain = ext.aligned(left, self.top.granularity, self.disk.size)
        if self.compress:
            partly = ext.aligned(owned, self.top.cluster_size, self.disk.size)
            yield ext.subtract(ext.aligned(left, self.top.cluster_size, self.disk.size), partly), True
            plain = ext.intersect(plain, partly)
        yield plain, False

    def _differences(self, group: _Group) -> _Found:
        length = ext.total(group.ranges)
        buffers = self._take_buffers()
        old, new = (memoryview(buffer)[:length] for buffer in buffers)
        read_gathered(self.old, group.old, old)
        read_gathered(self.new, group.new, new)
        unit = self.top.cluster_size if group.compress else self.top.granularity
        changed = differing_units(buffers[0], new, unit)
        return _Found(list(_changes(group.ranges, changed, old)), buffers)

    def _take_buffers(self) -> tuple[bytearray, bytearray]:
        try:
            return self.buffers.pop()
        except IndexError:
            return bytearray(self.chunk), bytearray(self.chunk)

    def _write(self, change: _Change, *, compress: bool) -> None:
        # Version 2 has no zero clusters: zeroing would unallocate them, so that the new backing file would show.
        if self.top.has_zero_clusters and is_zero(change.data):
            self.disk.zero(change.start, len(change.data))
        elif compress:
            self.disk.write_compressed(change.start, change.data)
        else:
            self.disk.write(change.start, change.data)


def _grouped(ranges: Ranges, old: Extents, new: Extents, size: int, *, compress: bool) -> Iterator[_Group]:
    """Groups ranges up to `size` bytes together, even if they lie apart. No single range is longer than `size`."""
    ends = np.cumsum(ranges[:, 1] - ranges[:, 0])
    starts = old["start"].copy(), new["start"].copy()  # contiguous copies: searchsorted would copy a column on every call
    first = before = 0
    while first < len(ranges):
        last = int(np.searchsorted(ends, before + size, side="right"))
        start, end = int(ranges[first, 0]), int(ranges[last - 1, 1])
        of_old, of_new = (slice(*np.searchsorted(column, (start, end)).tolist()) for column in starts)
        yield _Group(ranges[first:last], old[of_old], new[of_new], compress)
        first, before = last, int(ends[last - 1])


def _changes(ranges: Ranges, changed: list[tuple[int, int]], buffer: memoryview) -> Iterator[_Change]:
    """Yields the bytes to write. `buffer` holds the bytes of the guest `ranges`, joined; `changed` are ranges of `buffer`."""
    ends = np.cumsum(ranges[:, 1] - ranges[:, 0])
    for first, last in changed:
        for index in range(int(np.searchsorted(ends, first, side="right")), int(np.searchsorted(ends, last)) + 1):
            end = int(ends[index])
            begin = end - int(ranges[index, 1] - ranges[index, 0])
            lo, hi = max(first, begin), min(last, end)
            yield _Change(int(ranges[index, 0]) + lo - begin, buffer[lo:hi])
