"""What every opened format gives to the image layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from cowherd.extents import Extents
    from cowherd.formats.qcow2.bitmaps import Bitmap
    from cowherd.formats.qcow2.snapshots import Snapshot
    from cowherd.formats.reference import BackingReference
    from cowherd.kinds import Row
    from cowherd.storage.blocks import BlockFile
    from cowherd.storage.copying import Bytes

Below = Callable[[int, memoryview], None]
"""Reads guest bytes from what lies under a layer: `below(guest_offset, buffer)` fills the buffer, zeros past the end."""


class Layer(Protocol):
    """One opened image file, without its backing file. All offsets and lengths are guest bytes.

    Reading methods may be called from several threads at once as long as no thread changes the image.
    """

    format: str
    file: BlockFile

    @property
    def data(self) -> BlockFile:
        """The file that holds the guest's bytes at the `host` offsets of extents: `file`, except in formats of several files."""
        ...

    @property
    def size(self) -> int:
        """Virtual size in bytes."""
        ...

    @property
    def backing(self) -> BackingReference | None:
        """The backing file that the image names, or None."""
        ...

    @property
    def granularity(self) -> int:
        """Bytes of the smallest unit that the format allocates (1 for raw)."""
        ...

    @property
    def cluster_size(self) -> int:
        """Bytes of a cluster, the unit of compressed writes. Larger than `granularity` if that is the size of a subcluster."""
        ...

    @property
    def has_subclusters(self) -> bool:
        """Whether bytes that are left to the backing file may still have a place (`host`), in an allocated cluster."""
        ...

    @property
    def has_zero_clusters(self) -> bool:
        """Whether `zero` hides a backing file's bytes without storing zeros."""
        ...

    @property
    def status_reach(self) -> int | None:
        """How many guest bytes QEMU looks at together when it asks for the status of a run; None if there is no such limit."""
        ...

    @property
    def corrupt(self) -> bool:
        """Whether the image is marked corrupt."""
        ...

    def extents(self, start: int, length: int) -> Extents:
        """Returns a cover of [start, start+length), which must lie inside `size`; `depth` is 0 throughout."""
        ...

    def extents_to_read(self, start: int, length: int) -> Extents:
        """Does what `extents` does, for callers that only read the bytes: zeros that take time to find may count as DATA."""
        ...

    def place(self, start: int, length: int) -> tuple[int, int] | None:
        """Returns the `host` and the kind of a range that is a single extent for its readers, as `extents_to_read` has it.

        None if it may be several, is compressed, or can't be told shortly: `extents_to_read` tells then.
        """
        ...

    def empty_until(self, start: int) -> int:
        """Returns a guest byte up to which the file stores nothing from `start` on; `ENDLESS` if nothing follows at all.

        Up to there `extents` returns few extents, however long the range.
        """
        ...

    def read_compressed(self, parts: Iterable[tuple[int, memoryview]]) -> None:
        """Fills each buffer with guest bytes from the offset beside it on; the bytes lie in extents of kind COMPRESSED."""
        ...

    def metadata_preallocated(self) -> bool:
        """Whether clusters may be mapped to holes of the file, by QEMU's measure: if so, its holes read as zeros."""
        ...

    def snapshots(self) -> tuple[Snapshot, ...]:
        """Returns the internal snapshots; `at_snapshot` shows each of them. Raises `ImageFormatError` for a broken table."""
        ...

    def at_snapshot(self, snapshot: Snapshot) -> Layer:
        """Returns the image as it is with `snapshot` applied, for reading only; closing this image closes its file."""
        ...

    def bitmaps(self) -> tuple[Bitmap, ...] | None:
        """Returns the persistent bitmaps, None for an image that can't have any. Raises `ImageFormatError`."""
        ...

    def has_enabled_bitmaps(self) -> bool:
        """Returns whether the image has bitmaps that a writer must keep up to date."""
        ...

    def share_cache(self, chain: Sequence[Layer]) -> None:
        """Keeps tables in the cache of the first layer of `chain` in this format, so that long chains take no more memory."""
        ...

    def write(self, start: int, data: Bytes, below: Below | None) -> None:
        """Writes guest bytes; `below` fills the parts of newly allocated clusters that `data` does not cover."""
        ...

    def write_compressed(self, start: int, data: memoryview, below: Below | None) -> None:
        """Writes whole clusters (the disk's last may be shorter) compressed. Raises `InvalidRequest` if the format can't."""
        ...

    def zero(self, start: int, length: int, below: Below | None, *, unmap: bool) -> None:
        """Makes a range read as zeros; with `unmap`, gives its space back if the format can."""
        ...

    def discard(self, start: int, length: int, below: Below | None) -> None:
        """Gives back the space of whole clusters inside the range; they read as zeros from then on."""
        ...

    def flush(self) -> None:
        """Makes every completed request durable."""
        ...

    def deallocate_all(self) -> None:
        """Empties the image, so that its backing file shows everywhere. Durable on return. Raises `InvalidRequest`."""
        ...

    def resize(self, size: int, below: Below | None, below_size: int) -> None:
        """Changes the virtual size. `below` reads the backing file; its bytes must not show in the added range."""
        ...

    def preallocate(self, start: int, length: int, *, reserve: bool) -> None:
        """Maps whole clusters of a range that reads as zeros to places in the file; `reserve` also reserves their space."""
        ...

    def set_backing(self, reference: BackingReference | None, *, without: int | None = None) -> None:
        """Names another backing file, or none, in the header, and removes an extension of type `without`. Durable on return.

        Raises `InvalidRequest` if the format or the header has no room for it.
        """
        ...

    def require_room_for(self, reference: BackingReference | None) -> None:
        """Raises `InvalidRequest` where `set_backing` would."""
        ...

    def set_extension(self, kind: int, data: bytes | None) -> None:
        """Sets the header extension of type `kind`, or removes it if `data` is None. Durable on return.

        Raises `InvalidRequest` if the format or the header has no room for it.
        """
        ...

    def close(self) -> None:
        """Flushes and closes. Closing twice is fine."""
        ...


class HeaderFields(Protocol):
    """The content of an image's header, as a value."""

    def with_backing(self, reference: BackingReference | None) -> Self:
        """Returns a header that names another backing file, or none."""
        ...

    def with_extension(self, kind: int, data: bytes | None) -> Self:
        """Returns a header with the extension of type `kind` set to `data`, or without that extension if `data` is None."""
        ...


AnyHeader = TypeVar("AnyHeader", bound=HeaderFields)


class HeaderChange(Protocol):
    """A change to a header of any format."""

    def __call__(self, header: AnyHeader, /) -> AnyHeader:
        """Returns the changed header."""
        ...


class EditableHeader(Protocol):
    """An opened image of which a caller may only change the header."""

    file: BlockFile

    @property
    def backing(self) -> BackingReference | None:
        """The backing file that the image names, or None; it is not opened."""
        ...

    def change(self, change: HeaderChange) -> None:
        """Replaces the header by what `change` makes of it, durably.

        Raises `InvalidRequest`, with nothing done, if the header has no room for it.
        """
        ...

    def close(self) -> None:
        """Closes the file."""
        ...


class LayerOutline(Protocol):
    """One opened image file, without its backing file. Offsets and lengths are guest bytes."""

    file: BlockFile
    format: str
    depth: int
    """Its place in its chain, 0 is the top."""

    entries_met: int
    """Number of non-empty entries in the tables that were read so far."""

    @property
    def data(self) -> BlockFile:
        """The file in which the guest's bytes lie; see `Layer.data`."""
        ...

    @property
    def table_bytes(self) -> int:
        """Bytes of the tables that may have to be read."""
        ...

    @property
    def granularity(self) -> int:
        """Bytes of the smallest unit that the format allocates (1 for raw)."""
        ...

    @property
    def has_subclusters(self) -> bool:
        """Always False; see `Layer.has_subclusters`."""
        ...

    @property
    def size(self) -> int:
        """Virtual size in bytes."""
        ...

    @property
    def backing(self) -> BackingReference | None:
        """The backing file that the image names, or None."""
        ...

    def metadata_preallocated(self) -> bool:
        """Whether clusters may be mapped to holes of the file; see `Layer.metadata_preallocated`."""
        ...

    def bitmaps(self) -> tuple[Bitmap, ...] | None:
        """Returns the persistent bitmaps; see `Layer.bitmaps`."""
        ...

    def rows(self, start: int, end: int) -> list[Row]:
        """Returns a cover of [start, end), which lies inside `size`. Raises `NeedsArrays`, `HostFileError`."""
        ...

    def units_with_data(self) -> int | None:
        """Returns how many units of `granularity` bytes hold data, None if only `rows` tells. Raises `HostFileError`."""
        ...

    def empty_until(self, start: int) -> int:
        """Returns a guest byte up to which the file stores nothing from `start` on; see `Layer.empty_until`."""
        ...

    def read_compressed(self, parts: Iterable[tuple[int, memoryview]]) -> None:
        """Fills each buffer with guest bytes; see `Layer.read_compressed`. Raises `ImageFormatError`."""
        ...

    def close(self) -> None:
        """Closes the file."""
        ...
