"""An opened qcow2 image: joins the parts of this package behind the interface of a layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from errno import EBADF
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cowherd import extents as ext
from cowherd.errors import HostFileError, ImageCorrupt, InvalidRequest, ReadOnlyImage, UnsupportedFeature
from cowherd.extents import Extents
from cowherd.formats.layer import Below
from cowherd.formats.qcow2 import block_status, layout
from cowherd.formats.qcow2.compressed import CompressedReader
from cowherd.formats.qcow2.header import Header, read_header
from cowherd.formats.qcow2.metadata import Metadata
from cowherd.formats.qcow2.state import ImageState
from cowherd.formats.qcow2.tables import Tables
from cowherd.formats.qcow2.writer import Writer
from cowherd.formats.readable import ReadableLayer
from cowherd.formats.reference import BackingReference
from cowherd.sizes import SECTOR
from cowherd.storage.blocks import BlockFile
from cowherd.storage.copying import Bytes
from cowherd.storage.hostfile import HostFile

if TYPE_CHECKING:
    from cowherd.formats.layer import Layer
    from cowherd.formats.qcow2.bitmaps import Bitmap
    from cowherd.formats.qcow2.snapshots import Snapshot
    from cowherd.paths import PathName


class Qcow2(ReadableLayer):
    """One qcow2 file, without its backing file; see `cowherd.formats.layer.Layer`."""

    format = "qcow2"

    def __init__(self, file: BlockFile, header: Header | None = None):
        """Takes over `file` and closes it with the image. The image can be written to if `file` is open for writing.

        A given `header` replaces that of the file; the image can then only be read.
        Raises `ImageFormatError`, `UnsupportedFeature`, or `ImageCorrupt` for a corrupt image opened for writing.
        """
        self.file = file
        self._state = ImageState(file, header or read_header(file))
        self._refuse_unsupported()
        self._tables = Tables(self._state)
        self._compressed = CompressedReader(file, self.header, partial(_words_at, self._tables))
        self._writer: Writer | None = None
        if file.writable and header is None:
            self._prepare_for_writing()

    @property
    def header(self) -> Header:
        """The header as it is now."""
        return self._state.header

    @property
    def size(self) -> int:
        """Virtual size in bytes: QEMU counts whole sectors only."""
        return self.header.disk_size

    @property
    def backing(self) -> BackingReference | None:
        """The backing file as the image names it, or None."""
        return self.header.backing

    @property
    def granularity(self) -> int:
        """Bytes of a subcluster, or of a cluster without extended L2 entries."""
        return self.header.subcluster_size

    @property
    def cluster_size(self) -> int:
        """Bytes of a cluster."""
        return self.header.cluster_size

    @property
    def has_subclusters(self) -> bool:
        """Whether the image has extended L2 entries: its clusters have a place even where all subclusters are unused."""
        return self.header.extended_l2

    @property
    def has_zero_clusters(self) -> bool:
        """Whether the image is of version 3: version 2 has no clusters of zeros."""
        return self.header.version >= 3

    @property
    def status_reach(self) -> int:
        """Guest bytes that a slice of an L2 table maps, as QEMU reads it; see `Layer.status_reach`."""
        return block_status.status_reach(self.header)

    @property
    def corrupt(self) -> bool:
        """Whether the image is marked corrupt."""
        return self.header.corrupt

    def snapshots(self) -> tuple[Snapshot, ...]:
        """Returns the internal snapshots; `at_snapshot` opens one.

        Raises `ImageFormatError` for a snapshot table that can't be read, or must not be followed.
        """
        from cowherd.formats.qcow2.snapshots import read_snapshots, require_separate_tables

        if not self.header.nb_snapshots:
            return ()
        found = read_snapshots(self.file, self.header)
        require_separate_tables(self.file, found)
        return found

    def at_snapshot(self, snapshot: Snapshot) -> Qcow2:
        """Returns the image as `snapshot` has it, with the snapshot's tables and size, for reading only.

        Both use one file, which is closed with this image. Writing to this image changes no snapshot.
        Raises `ImageFormatError` for a snapshot with broken tables.
        """
        from cowherd.formats.qcow2.snapshots import header_at

        return Qcow2(self.file, header_at(self.file, self.header, snapshot))

    def bitmaps(self) -> tuple[Bitmap, ...] | None:
        """Returns the persistent bitmaps, which images of version 2 can't have."""
        from cowherd.formats.qcow2.bitmaps import bitmaps_of

        return bitmaps_of(self.file, self.header)

    def has_enabled_bitmaps(self) -> bool:
        """Returns whether the image has a bitmap directory that is said to be up to date."""
        return bool(self.header.extension(layout.EXTENSION_BITMAPS) and self.header.autoclear & layout.AUTOCLEAR_BITMAPS)

    def metadata_preallocated(self) -> bool:
        """Returns whether the image uses more clusters than its file occupies; see `Layer.metadata_preallocated`."""
        return block_status.metadata_preallocated(self.file, self.header)

    def share_cache(self, chain: Sequence[Layer]) -> None:
        """Keeps L2 tables in the cache of the first qcow2 image of `chain` from now on."""
        first = next((layer for layer in chain if isinstance(layer, Qcow2)), self)
        self._tables.cache = first._tables.cache

    def place(self, start: int, length: int) -> tuple[int, int] | None:
        """Returns where a range inside one cluster lies; see `Layer.place`."""
        return self._tables.place(start, length)

    def extents(self, start: int, length: int) -> Extents:
        """Returns a cover of [start, start+length); see `Layer.extents`."""
        return self._tables.extents(start, length)

    def empty_until(self, start: int) -> int:
        """Returns the next guest byte at which something may be stored; see `Layer.empty_until`."""
        return self._tables.empty_until(start)

    def read_compressed(self, parts: Iterable[tuple[int, memoryview]]) -> None:
        """Fills buffers with guest bytes; see `Layer.read_compressed`. Raises `ImageFormatError` if they do not decompress."""
        self._compressed.read(parts)

    def write(self, start: int, data: Bytes, below: Below | None) -> None:
        """Writes guest bytes; see `Layer.write`."""
        self._changer().write(start, data, below)

    def write_compressed(self, start: int, data: memoryview, below: Below | None) -> None:
        """Writes whole clusters compressed, those that do not shrink plainly. The disk's last cluster may be shorter.

        Raises `InvalidRequest` for a range that does not cover whole clusters.
        """
        size = self.header.cluster_size
        if start % size or (len(data) % size and start + len(data) != self.size):
            raise InvalidRequest("compressed writes cover whole clusters")
        for position in range(0, len(data), size):
            piece = data[position : position + size]
            compressed = self._compressed.codec().compress(bytes(piece).ljust(size, b"\0"))
            if not self._changer().write_compressed(start + position, compressed):
                self._changer().write(start + position, piece, below)

    def zero(self, start: int, length: int, below: Below | None, *, unmap: bool) -> None:
        """Makes a range read as zeros; see `Layer.zero`."""
        self._changer().zero(start, length, below, unmap=unmap)

    def discard(self, start: int, length: int, below: Below | None) -> None:
        """Frees the whole clusters of a range; see `Layer.discard`."""
        self._changer().discard(start, length, below)

    def deallocate_all(self) -> None:
        """Empties the image, so that its backing file shows everywhere, and shortens the file. Durable on return."""
        writer = self._changer()
        writer.deallocate(0, -(-self.size // self.header.cluster_size) * self.header.cluster_size)
        writer.metadata.trim()

    def flush(self) -> None:
        """Makes every completed request durable, in the order that survives a crash."""
        if self._writer is not None:
            self._writer.metadata.flush()

    def resize(self, size: int, below: Below | None = None, below_size: int = 0) -> None:
        """Changes the virtual size. `below` and `below_size` are those of the backing file, which must not show in the new part.

        Raises `InvalidRequest` for a size that is not in whole sectors, `UnsupportedFeature` for an image with persistent
        bitmaps, and for a version 2 image with snapshots, which do not record their size.
        """
        from cowherd.formats.qcow2 import resize

        writer = self._changer()
        if size % SECTOR:
            raise InvalidRequest(f"The new size must be a multiple of {SECTOR}")
        if self.header.extension(layout.EXTENSION_BITMAPS):
            raise UnsupportedFeature(self.file.path, "resizing an image with persistent bitmaps")
        if self.header.nb_snapshots and self.header.version < 3:
            raise UnsupportedFeature(self.file.path, "resizing a version 2 image with snapshots")
        if size > self.size:
            resize.grow(self._state, writer, size, below, below_size)
        elif size < self.size:
            resize.shrink(self._state, writer, size)

    def preallocate(self, start: int, length: int, *, reserve: bool) -> None:
        """Gives each unallocated whole cluster of the range a place of its own in the file; it reads as zeros.

        With `reserve`, takes the host's space for it, too. Only for ranges that read as zeros.
        """
        self._changer().preallocate(start, length, reserve=reserve)

    def set_backing(self, reference: BackingReference | None, *, without: int | None = None) -> None:
        """Names another backing file, or none, in the header; nothing else changes. Durable on return.

        The same write removes the extension of type `without`, which describes the old backing file.
        """
        header = self.header if without is None else self.header.with_extension(without, None)
        self._update_header(header.with_backing(reference))

    def require_room_for(self, reference: BackingReference | None) -> None:
        """Raises `InvalidRequest` if the header has no room for the name of another backing file."""
        self.header.with_backing(reference).pack()

    def set_extension(self, kind: int, data: bytes | None) -> None:
        """Sets the header extension of type `kind`, or removes it if `data` is None. Durable on return."""
        self._update_header(self.header.with_extension(kind, data))

    def close(self) -> None:
        """Flushes and closes, even if flushing fails. Closing twice is fine."""
        try:
            super().close()
        finally:
            self._writer = None  # it knows this image: both would stay in memory, with their tables, until cycles are looked for

    def _refuse_unsupported(self) -> None:
        if self.header.crypt_method:
            raise UnsupportedFeature(self.file.path, "encryption")
        if self.header.external_data_file:
            raise UnsupportedFeature(self.file.path, "an external data file")

    def _prepare_for_writing(self) -> None:
        """Does what the specification requires of a writer before its first change."""
        if self.header.corrupt:
            raise ImageCorrupt(self.file.path, "the image is marked corrupt")
        self._refuse_enabled_bitmaps()
        metadata = Metadata(self._state, self._tables)
        self._writer = Writer(self._state, metadata, self._read_visible)
        if self.header.dirty:
            self._repair_refcounts(metadata)
        unknown = self.header.autoclear & ~layout.AUTOCLEAR_KNOWN
        if unknown:
            self._update_header(self.header._replace(autoclear=self.header.autoclear & layout.AUTOCLEAR_KNOWN))

    def _refuse_enabled_bitmaps(self) -> None:
        if self.has_enabled_bitmaps():
            from cowherd.formats.qcow2.bitmaps import read_bitmaps

            enabled = [bitmap for bitmap in read_bitmaps(self.file, self.header) if bitmap.auto]
            if enabled:
                raise UnsupportedFeature(self.file.path, "writing to an image with enabled persistent bitmaps")

    def _repair_refcounts(self, metadata: Metadata) -> None:
        """Counts all references anew: the last writer kept refcounts in memory and did not close the image."""
        from cowherd.formats.qcow2.references import expected_refcounts

        references = expected_refcounts(self.file, self.header)
        if references.corruptions or references.check_errors:
            raise ImageCorrupt(self.file.path, f"its last writer did not close it, and: {references.messages.lines[0]}")
        metadata.refcounts.replace_all(references.counts)
        self._update_header(self.header._replace(incompatible=self.header.incompatible & ~layout.INCOMPATIBLE_DIRTY))

    def _update_header(self, header: Header) -> None:
        self._changer().metadata.flush()
        self._state.replace_header(header)

    def _changer(self) -> Writer:
        if self._writer is None:
            if self.file.closed:
                raise HostFileError(self.file.path, "change", OSError(EBADF, "it is closed"))
            raise ReadOnlyImage(self.file.path)
        self._compressed.forget()
        return self._writer

    def _read_visible(self, start: int, buffer: memoryview, below: Below | None) -> None:
        for position, length, host, _, kind in self.extents(start, len(buffer)).tolist():
            part = buffer[position - start : position - start + length]
            if kind == ext.DATA:
                self.file.preadinto(host, part)
            elif kind == ext.COMPRESSED:
                self.read_compressed([(position, part)])
            elif kind == ext.BACKING and below is not None:
                below(position, part)
            else:
                part[:] = bytes(length)


def _words_at(tables: Tables, clusters: list[int]) -> list[int]:
    words: list[int] = tables.words_at(np.array(clusters)).tolist()
    return words


def open_qcow2(path: PathName, *, writable: bool = False) -> Qcow2:
    """Opens one qcow2 file with the locks for reading or writing it, without following its backing file."""
    from cowherd.storage.locks import READ, WRITE

    file = HostFile.open(path, writable=writable, lock=WRITE if writable else READ)
    try:
        return Qcow2(file)
    except BaseException:
        file.close()
        raise
