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
        """The file in which the guest's bytes lie at the `host` offsets of extents: `file`, but for formats of several files."""
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
        """Bytes of a cluster: of what is written compressed at a time. Larger than `granularity` where that is a subcluster."""
        ...

    @property
    def has_subclusters(self) -> bool:
        """Whether bytes left to the backing file may have a place (`host`) all the same, in a cluster that is allocated."""
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
        """Returns what `extents` returns for whoever only reads the bytes: zeros that cost time to tell may be DATA."""
        ...

    def empty_until(self, start: int) -> int:
        """Returns a guest byte at or after `start` before which the file stores nothing; `ENDLESS` if nothing follows at all.

        Up to there an answer of `extents` is short, however long the range.
        """
        ...

    def read_compressed(self, parts: Iterable[tuple[int, memoryview]]) -> None:
        """Fills each buffer with guest bytes, from the offset beside it on, that lie in extents of kind COMPRESSED."""
        ...

    def metadata_preallocated(self) -> bool:
        """Whether clusters have places that the file may have holes at, by QEMU's measure: then its holes read as zeros."""
        ...

    def snapshots(self) -> tuple[Snapshot, ...]:
        """Returns the internal snapshots, each of which `at_snapshot` shows. Raises `ImageFormatError` for a broken table."""
        ...

    def at_snapshot(self, snapshot: Snapshot) -> Layer:
        """Returns the image as it is when `snapshot` is applied, to be read only; its file is closed with this image."""
        ...

    def bitmaps(self) -> tuple[Bitmap, ...] | None:
        """Returns the persistent bitmaps, None for an image that can't have any. Raises `ImageFormatError`."""
        ...

    def has_enabled_bitmaps(self) -> bool:
        """Returns whether bitmaps would have to be kept up to date by whoever writes to the image."""
        ...

    def share_cache(self, chain: Sequence[Layer]) -> None:
        """Keeps tables where the first layer of `chain` of this format keeps them, so that long chains take no more memory."""
        ...

    def write(self, start: int, data: Bytes, below: Below | None) -> None:
        """Writes guest bytes; parts of newly allocated clusters that `data` leaves open are filled from `below`."""
        ...

    def write_compressed(self, start: int, data: memoryview, below: Below | None) -> None:
        """Writes whole clusters (the disk's last may be shorter) compressed. Raises `InvalidRequest` where the format can't."""
        ...

    def zero(self, start: int, length: int, below: Below | None, *, unmap: bool) -> None:
        """Makes a range read as zeros; with `unmap` the space is given back where the format can."""
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
        """Changes the virtual size. `below` and its size are the backing file, whose bytes must not show in what is gained."""
        ...

    def preallocate(self, start: int, length: int, *, reserve: bool) -> None:
        """Gives whole clusters of a range that reads as zeros places in the file, with `reserve` space for them too."""
        ...

    def set_backing(self, reference: BackingReference | None, *, without: int | None = None) -> None:
        """Names another backing file, or none, in the header, and removes an extension of type `without`. Durable on return.

        Raises `InvalidRequest` where the format or the header has no room for it.
        """
        ...

    def require_room_for(self, reference: BackingReference | None) -> None:
        """Raises `InvalidRequest` where `set_backing` would."""
        ...

    def set_extension(self, kind: int, data: bytes | None) -> None:
        """Sets the header extension of type `kind`, or removes it if `data` is None. Durable on return.

        Raises `InvalidRequest` where the format or the header has no room for it.
        """
        ...

    def close(self) -> None:
        """Flushes and closes. Closing twice is fine."""
        ...


class HeaderFields(Protocol):
    """What an image's header says, as a value."""

    def with_backing(self, reference: BackingReference | None) -> Self:
        """Returns it naming another backing file, or none."""
        ...

    def with_extension(self, kind: int, data: bytes | None) -> Self:
        """Returns it with the extension of type `kind` set to `data`, or without it if that is None."""
        ...


AnyHeader = TypeVar("AnyHeader", bound=HeaderFields)


class HeaderChange(Protocol):
    """What is to be made of a header, whatever its format."""

    def __call__(self, header: AnyHeader, /) -> AnyHeader:
        """Returns the header as it is to be."""
        ...


class EditableHeader(Protocol):
    """An opened image of which only the header is changed."""

    file: BlockFile

    @property
    def backing(self) -> BackingReference | None:
        """The backing file that the image names, which nobody follows here."""
        ...

    def change(self, change: HeaderChange) -> None:
        """Replaces the header by what `change` makes of it, durably. Raises `InvalidRequest`, with nothing done, without room."""
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
    """Table entries that lead anywhere, as far as tables were looked at."""

    @property
    def data(self) -> BlockFile:
        """The file in which the guest's bytes lie; see `Layer.data`."""
        ...

    @property
    def table_bytes(self) -> int:
        """Bytes of the tables that may have to be looked at."""
        ...

    @property
    def granularity(self) -> int:
        """Bytes of the smallest unit that the format allocates (1 for raw)."""
        ...

    @property
    def size(self) -> int:
        """Virtual size in bytes."""
        ...

    @property
    def backing(self) -> BackingReference | None:
        """The backing file that the image names, or None."""
        ...

    def rows(self, start: int, end: int) -> list[Row]:
        """Returns a cover of [start, end), which lies inside `size`. Raises `NeedsArrays`, `HostFileError`."""
        ...

    def empty_until(self, start: int) -> int:
        """Returns a guest byte at or after `start` before which the file stores nothing; see `Layer.empty_until`."""
        ...

    def read_compressed(self, parts: Iterable[tuple[int, memoryview]]) -> None:
        """Fills each buffer with guest bytes; see `Layer.read_compressed`. Raises `ImageFormatError`."""
        ...

    def close(self) -> None:
        """Closes the file."""
        ...
