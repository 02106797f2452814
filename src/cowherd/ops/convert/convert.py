"""Copies the content of images into another image, in another format or with other options."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from threading import Lock

from cowherd.errors import InvalidRequest
from cowherd.formats import registry
from cowherd.formats.qcow2.create import new_header
from cowherd.formats.qcow2.options import Qcow2Options
from cowherd.image.reading import open_reading
from cowherd.ops.convert.batches import COPY, KERNEL_COPY, REFLINK, ZERO, Batch, batches, lot_bytes
from cowherd.ops.convert.sinks import NewCompressedQcow2, NewQcow2, Prepared, RawDevice, RawFile
from cowherd.ops.convert.sources import Source
from cowherd.ops.copying import Buffers
from cowherd.ops.create import create, require_creatable
from cowherd.ops.flow import WriteJob, flow
from cowherd.progress import Progress
from cowherd.sizes import DEFAULT_SPARSE_SIZE, SECTOR, whole_sectors
from cowherd.storage import locks
from cowherd.storage.ahead import jumps, reading_ahead
from cowherd.storage.atomic import make_name_lasting
from cowherd.storage.hostfile import HostFile
from cowherd.storage.opening import open_file
from cowherd.text import printable
from cowherd.tuples import NamedTuple
from cowherd.urls import Url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.ops.convert.sink import Sink
    from cowherd.paths import PathName
    from cowherd.storage.ahead import Stretch
    from cowherd.storage.blocks import Opener
    from cowherd.urls import ImageName


_LOT_BYTES = 4 << 20
"""Bytes moved at once: enough that the fixed cost of a batch is small, few enough for a processor's cache."""


class _Target(NamedTuple):
    """What the caller wants of the target."""

    path: PathName
    format: str
    options: Mapping[str, str]
    backing: str | None
    backing_format: str | None
    compress: bool
    sparse_size: int

    @property
    def needs_tables(self) -> bool:
        """Whether `convert` writes a new target through its own tables.

        An overlay may need bytes of its backing file to fill a cluster, and a preallocated image already has its clusters.
        """
        return not registry.named(self.format).verbatim and (
            self.backing is not None or self.options.get("preallocation", "off") != "off"
        )


def convert(
    sources: ImageName | Sequence[ImageName],
    target: PathName,
    *,
    source_format: str | None = None,
    target_format: str = registry.NEW_TARGET,
    options: Mapping[str, str] | None = None,
    backing: str | None = None,
    backing_format: str | None = None,
    compress: bool = False,
    sparse_size: int = DEFAULT_SPARSE_SIZE,
    create_target: bool = True,
    target_is_zero: bool = False,
    force_share: bool = False,
    opener: Opener = open_file,
    progress: Progress | None = None,
) -> None:
    """Makes `target` hold what the guest sees of the sources, one after the other.

    With `backing` the target is an overlay of that file, and only what the source holds itself is copied: the file must have the
    content of the source's backing file. `sparse_size` is how many bytes of zeros in a row become a hole; 0 makes a fully
    allocated target. `create_target=False` writes into an image that exists and is large enough; `target_is_zero` promises that
    it reads as zeros. `opener` opens the sources, or lends those that the caller holds.

    Raises `InvalidRequest`, `HostFileError`, and what opening the sources raises; sources are never changed. A qcow2 target that
    could not be finished is not an image; a raw one has holes where data is missing.
    """
    if not registry.named(target_format).is_known:
        raise InvalidRequest(f"Unknown file format '{printable(target_format)}'")
    if sparse_size % SECTOR:
        raise InvalidRequest(f"the sparse size must be a multiple of {SECTOR} bytes")
    wanted = _Target(target, target_format, dict(options or {}), backing, backing_format, compress, sparse_size)
    paths = [sources] if isinstance(sources, str | os.PathLike | Url) else list(sources)
    with ExitStack() as stack:
        source = _source(stack, paths, source_format, opener, overlay=backing is not None, force_share=force_share)
        if create_target:
            sink = _new_target(stack, source.size, wanted)
        else:
            sink = _existing_target(stack, source.size, wanted, is_zero=target_is_zero)
        _copy(source, sink, wanted, progress)


def _source(
    stack: ExitStack, paths: Sequence[ImageName], format: str | None, opener: Opener, *, overlay: bool, force_share: bool
) -> Source:
    readings = (open_reading(path, format=format, force_share=force_share, opener=opener) for path in paths)
    images = [stack.enter_context(reading) for reading in readings]
    if not force_share:
        for image in images:  # raw images too: QEMU lets others write to one that it reads, but not while it converts it
            image.files[0].lock(locks.READ)
    return Source(images, overlay=overlay)


def _new_target(stack: ExitStack, size: int, wanted: _Target) -> Sink:
    """Makes the file and the sink that fills it."""
    made = require_creatable(wanted.format)
    if wanted.compress and not made.compressed:
        raise InvalidRequest("Compression not supported for this file format")
    preallocation = wanted.options.get("preallocation", "off")
    if wanted.compress and preallocation != "off":
        raise InvalidRequest("Compression and preallocation not supported at the same time")
    if made.verbatim:
        create(wanted.path, size, format=wanted.format, options=wanted.options, backing=wanted.backing)
        file = HostFile.open(wanted.path, writable=True, lock=locks.WRITE_RAW)
        return (RawDevice if file.is_block_device else RawFile)(stack.enter_context(file), wanted.sparse_size)
    if wanted.needs_tables:
        return _image_written_through_its_tables(stack, size, wanted)
    header = new_header(whole_sectors(size), Qcow2Options.from_mapping(wanted.options))
    header.pack()  # raises if something does not fit, while an old file of that name is still whole
    file = stack.enter_context(HostFile.create(wanted.path))
    file.clear_signature()
    make_name_lasting(wanted.path)
    file.lock(locks.WRITE)
    if wanted.compress:
        return NewCompressedQcow2(file, header)
    return NewQcow2(file, header, keeps_zeros=not wanted.sparse_size)


def _image_written_through_its_tables(stack: ExitStack, size: int, wanted: _Target) -> Sink:
    from cowherd.image.open import open_disk
    from cowherd.ops.convert.rewriting import ExistingImage

    options = dict(wanted.options)
    create(wanted.path, size, options=options, backing=wanted.backing, backing_format=wanted.backing_format)
    disk = stack.enter_context(open_disk(wanted.path, format=wanted.format, writable=True))
    sparse = wanted.sparse_size
    return ExistingImage(disk, sparse_size=sparse, compress=wanted.compress, is_zero=True, backing_size=disk.backing_size)


def _existing_target(stack: ExitStack, size: int, wanted: _Target, *, is_zero: bool) -> Sink:
    from cowherd.image.open import open_disk
    from cowherd.ops.convert.rewriting import ExistingImage

    disk = stack.enter_context(open_disk(wanted.path, format=wanted.format, writable=True))
    if disk.size < size:
        raise InvalidRequest("output file is smaller than input file")
    return ExistingImage(disk, sparse_size=wanted.sparse_size, compress=wanted.compress, is_zero=is_zero)


def _copy(source: Source, sink: Sink, wanted: _Target, progress: Progress | None) -> None:
    """Feeds the sink with all that the source shows, in guest order."""
    size = lot_bytes(sink.alignment, _LOT_BYTES)
    buffers, taking = Buffers(size), Lock()

    def load(batch: Batch) -> Prepared | None:
        if batch.means == ZERO:
            return None
        if batch.means == REFLINK:
            return Prepared(source.stored(batch.held, shares=True), None)
        if batch.means == KERNEL_COPY:
            return sink.prepare_ranges(source.stored(batch.held, shares=False))
        buffer = buffers.take(batch.bytes)
        source.read(batch.ranges, batch.held, buffer)
        return sink.prepare(buffer)

    def store(batch: Batch, loaded: Prepared | None) -> WriteJob | None:
        if progress:
            progress(batch.end, source.size)
        if loaded is None:
            for start, end in batch.ranges:
                sink.zero(start, end)
            return None
        return partial(write, sink.put(batch.ranges, loaded), loaded)

    def write(job: WriteJob | None, loaded: Prepared) -> None:
        if isinstance(loaded.data, memoryview):
            if job is not None:
                job()
            buffers.give(loaded.data)
        elif job is not None:
            with taking:  # without this, others would wait busily in the kernel, and for long
                job()

    def stretches(batch: Batch) -> Iterable[Stretch]:
        return source.stretches(batch.held)

    read = jumps(stretches)

    def needed(batch: Batch) -> Iterable[Stretch]:
        return read(batch) if batch.means == COPY else stretches(batch) if batch.means == KERNEL_COPY else ()

    flow(reading_ahead(batches(source, sink, size, overlay=wanted.backing is not None), needed), load, store)
    sink.finish()
    if progress:
        progress(source.size, source.size)
