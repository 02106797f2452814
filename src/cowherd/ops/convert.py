"""Copying the content of images into another image, in another format or with other choices."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter

import numpy as np

from cowherd import extents as ext
from cowherd.errors import InvalidRequest
from cowherd.extents import Extents
from cowherd.formats.qcow2.create import new_header
from cowherd.formats.qcow2.options import Qcow2Options
from cowherd.image.open import open_disk
from cowherd.ops.copying import CHUNK_BYTES, Buffers, Progress, WriteJob, pump
from cowherd.ops.create import FORMATS, SECTOR, create
from cowherd.ops.plan import Share, Step, plan_copy, shares, steps
from cowherd.ops.sinks import ExistingImage, NewCompressedQcow2, NewQcow2, Prepared, RawFile, Sink
from cowherd.ops.sources import Concatenation
from cowherd.sizes import DEFAULT_SPARSE_SIZE
from cowherd.storage import locks
from cowherd.storage.atomic import make_name_lasting
from cowherd.storage.copying import Bytes, can_clone, clone_alignment, clone_range, copy_range
from cowherd.storage.hostfile import HostFile
from cowherd.text import printable

Path = str | os.PathLike[str]


@dataclass(frozen=True)
class _Target:
    """What was asked of the target."""

    path: Path
    format: str
    options: Mapping[str, str]
    backing: str | None
    backing_format: str | None
    compress: bool
    sparse_size: int


def convert(
    sources: Path | Sequence[Path],
    target: Path,
    *,
    source_format: str | None = None,
    target_format: str = "raw",
    options: Mapping[str, str] | None = None,
    backing: str | None = None,
    backing_format: str | None = None,
    compress: bool = False,
    sparse_size: int = DEFAULT_SPARSE_SIZE,
    create_target: bool = True,
    target_is_zero: bool = False,
    force_share: bool = False,
    progress: Progress | None = None,
) -> None:
    """Makes `target` hold what the guest sees of the sources, one behind the other.

    With `backing` the target is an overlay of that file, and only what the source holds itself is copied: the backing file's
    content must be that of the source's. `sparse_size` is how many bytes of zeros in a row become a hole; 0 makes a fully
    allocated target. `create_target=False` writes into an image that exists and is large enough; `target_is_zero` promises
    that it reads as zeros.

    Raises `InvalidRequest`, `HostFileError`, and what opening the sources raises; sources are never changed. A qcow2 target that
    could not be finished is not an image; a raw one has holes where data is missing.
    """
    if target_format not in FORMATS:
        raise InvalidRequest(f"Unknown file format '{printable(target_format)}'")
    if sparse_size % SECTOR:
        raise InvalidRequest(f"the sparse size must be a multiple of {SECTOR} bytes")
    wanted = _Target(target, target_format, dict(options or {}), backing, backing_format, compress, sparse_size)
    paths = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    with ExitStack() as stack:
        disks = [stack.enter_context(open_disk(path, format=source_format, force_share=force_share)) for path in paths]
        if not force_share:
            for disk in disks:  # of raw images, too: QEMU lets others write to one that it reads, but not while it converts it
                disk.layers[0].file.lock(locks.READ)
        source = Concatenation(disks)
        if create_target:
            sink = _new_target(stack, source.size, wanted)
        else:
            sink = _existing_target(stack, source.size, wanted, is_zero=target_is_zero)
        _copy(source, sink, wanted, progress)


def _new_target(stack: ExitStack, size: int, wanted: _Target) -> Sink:
    """Makes the file and the sink that fills it."""
    if wanted.format == "raw" and wanted.compress:
        raise InvalidRequest("Compression not supported for this file format")
    preallocation = wanted.options.get("preallocation", "off")
    if wanted.compress and preallocation != "off":
        raise InvalidRequest("Compression and preallocation not supported at the same time")
    if wanted.format == "raw":
        create(wanted.path, size, format="raw", options=wanted.options, backing=wanted.backing)
        file = HostFile.open(wanted.path, writable=True, lock=locks.WRITE_RAW)
        return RawFile(stack.enter_context(file), wanted.sparse_size)
    if wanted.backing is not None or preallocation != "off":
        return _image_written_through_its_tables(stack, size, wanted)
    header = new_header(-(-size // SECTOR) * SECTOR, Qcow2Options.from_mapping(wanted.options))
    header.pack()  # refuses what does not fit while an old file of that name is still whole
    file = stack.enter_context(HostFile.create(wanted.path))
    make_name_lasting(wanted.path)
    file.lock(locks.WRITE)
    if wanted.compress:
        return NewCompressedQcow2(file, header)
    return NewQcow2(file, header, keep_zeros=not wanted.sparse_size)


def _image_written_through_its_tables(stack: ExitStack, size: int, wanted: _Target) -> Sink:
    """An overlay may need bytes of its backing file to fill a cluster, and a preallocated image has its clusters already."""
    options = dict(wanted.options)
    create(wanted.path, size, options=options, backing=wanted.backing, backing_format=wanted.backing_format)
    disk = stack.enter_context(open_disk(wanted.path, format=wanted.format, writable=True))
    sparse = wanted.sparse_size
    return ExistingImage(disk, sparse_size=sparse, compress=wanted.compress, is_zero=True, backing_size=disk.backing_size)


def _existing_target(stack: ExitStack, size: int, wanted: _Target, *, is_zero: bool) -> Sink:
    disk = stack.enter_context(open_disk(wanted.path, format=wanted.format, writable=True))
    if disk.size < size:
        raise InvalidRequest("output file is smaller than input file")
    return ExistingImage(disk, sparse_size=wanted.sparse_size, compress=wanted.compress, is_zero=is_zero)


def _copy(source: Concatenation, sink: Sink, wanted: _Target, progress: Progress | None) -> None:
    """Feeds the sink with all that the source shows, in guest order."""
    buffers = Buffers(_chunk_bytes(sink))

    def load(item: tuple[Step | Share, Extents]) -> Prepared | None:
        step, batch = item
        if isinstance(step, Share) or step.is_zero:
            return None
        buffer = buffers.take(step.end - step.start)
        held = source.in_one_piece(batch, step.start, step.end)
        chunk = sink.prepare_range(held, buffer) if held else None
        if chunk is not None:
            buffers.give(buffer)
            return chunk
        source.read_planned(batch, step.start, buffer)
        return sink.prepare(buffer)

    def store(item: tuple[Step | Share, Extents], chunk: Prepared | None) -> WriteJob | None:
        step, _ = item
        if progress:
            progress(step.end, source.size)
        if isinstance(step, Share):
            _share(source, sink, step)
        elif chunk is None:
            sink.zero(step.start, step.end)
        else:
            return partial(write, sink.put(step.start, chunk), chunk.data)
        return None

    def write(job: WriteJob | None, data: Bytes) -> None:
        if job is not None:
            job()
        if isinstance(data, memoryview):
            buffers.give(data)

    pump(_steps(source, sink, wanted), load, store)
    sink.finish()
    if progress:
        progress(source.size, source.size)


def _chunk_bytes(sink: Sink) -> int:
    return max(CHUNK_BYTES, sink.alignment)


def _share(source: Concatenation, sink: Sink, share: Share) -> None:
    """Makes the target share the source's blocks, or copies them where the file system has changed its mind."""
    target = sink.sharing()
    if target is None:
        raise AssertionError("shares are planned only for targets that can share")
    held_by, place, length = source.file_at(share.start, share.depth), sink.place(share.start, share.end), share.end - share.start
    if not clone_range(held_by, share.host, target, place, length):
        copy_range(held_by, share.host, target, place, length)


def _steps(source: Concatenation, sink: Sink, wanted: _Target) -> Iterator[tuple[Step | Share, Extents]]:
    """Plans one batch of extents at a time, so that memory does not grow with the image; yields each step with its batch.

    A range that was widened to the target's alignment may reach into the next batch, whose plan then leaves it out.
    """
    overlay = wanted.backing is not None
    sharable = _sharable_depths(source, sink)
    done = 0
    for batch in source.extents(depth=1 if overlay else None):
        plan = plan_copy(wanted.path, batch, alignment=sink.alignment, limit=source.size, backing_is_zero=not overlay)
        shared = _shares(batch, sink, sharable, done)
        taken = ext.union(np.array([[0, done]], np.int64), ext.ranges((share.start, share.end) for share in shared))
        plan = replace(plan, copy=ext.subtract(plan.copy, taken), zero=ext.subtract(plan.zero, taken))
        todo: Iterator[Step | Share] = heapq.merge(steps(plan, _chunk_bytes(sink)), shared, key=attrgetter("start"))
        for step in todo:
            yield step, batch
            done = max(done, step.end)


def _sharable_depths(source: Concatenation, sink: Sink) -> frozenset[int]:
    """Returns the depths at which every source's layer can share blocks with the target: none without reflink."""
    target = sink.sharing()
    if target is None:
        return frozenset()
    chains = source.layer_files()
    common = range(min(map(len, chains)))
    return frozenset(depth for depth in common if all(can_clone(files[depth], target) for files in chains))


def _shares(batch: Extents, sink: Sink, depths: frozenset[int], done: int) -> list[Share]:
    target = sink.sharing()
    if target is None or not depths:
        return []
    block = clone_alignment(target)
    if sink.alignment % block:
        return []
    return [share for share in shares(batch, alignment=sink.alignment, block=block, depths=depths) if share.start >= done]
