"""A layer that can only be read: what every format does unless it overrides it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Self

from cowherd.errors import InvalidRequest
from cowherd.formats.layer import Below, Layer

if TYPE_CHECKING:
    from cowherd.extents import Extents
    from cowherd.formats.qcow2.bitmaps import Bitmap
    from cowherd.formats.qcow2.snapshots import Snapshot
    from cowherd.formats.reference import BackingReference
    from cowherd.storage.blocks import BlockFile
    from cowherd.storage.copying import Bytes


class ReadableLayer(ABC):
    """One opened image file; see `cowherd.formats.layer.Layer`. Every change is refused with `InvalidRequest`.

    A subclass defines at least `size`, `granularity` and `extents`, and `read_compressed` if its format has compressed clusters.
    """

    format: str
    file: BlockFile

    @property
    def data(self) -> BlockFile:
        """The file itself; see `Layer.data`."""
        return self.file

    @property
    @abstractmethod
    def size(self) -> int:
        """Virtual size in bytes."""

    @property
    @abstractmethod
    def granularity(self) -> int:
        """Bytes of the smallest unit that the format allocates."""

    @abstractmethod
    def extents(self, start: int, length: int) -> Extents:
        """Returns a cover of [start, start+length); see `Layer.extents`."""

    @property
    def backing(self) -> BackingReference | None:
        """None: such an image names no backing file."""
        return None

    @property
    def cluster_size(self) -> int:
        """Bytes of a cluster, which is the smallest unit here."""
        return self.granularity

    @property
    def has_subclusters(self) -> bool:
        """False: bytes that are not stored have no place."""
        return False

    @property
    def has_zero_clusters(self) -> bool:
        """True: zeros are not stored, or there is no backing file to hide."""
        return True

    @property
    def status_reach(self) -> int | None:
        """None: there is no limit."""
        return None

    @property
    def corrupt(self) -> bool:
        """False: such an image has no mark for it."""
        return False

    def extents_to_read(self, start: int, length: int) -> Extents:
        """Returns what `extents` returns; see `Layer.extents_to_read`."""
        return self.extents(start, length)

    def place(self, start: int, length: int) -> tuple[int, int] | None:
        """Returns None; see `Layer.place`."""
        return None

    def empty_until(self, start: int) -> int:
        """Returns `start`: the layer does not know how far the file stores nothing."""
        return start

    def read_compressed(self, parts: Iterable[tuple[int, memoryview]]) -> None:
        """Never called: no extent is of kind COMPRESSED."""
        raise AssertionError(f"a {self.format} image has no compressed clusters")

    def metadata_preallocated(self) -> bool:
        """Returns False; see `Layer.metadata_preallocated`."""
        return False

    def snapshots(self) -> tuple[Snapshot, ...]:
        """Returns none."""
        return ()

    def at_snapshot(self, snapshot: Snapshot) -> Layer:
        """Never called: there are no snapshots."""
        raise AssertionError(f"a {self.format} image has no snapshots")

    def bitmaps(self) -> tuple[Bitmap, ...] | None:
        """Returns None: such an image can't have any."""
        return None

    def has_enabled_bitmaps(self) -> bool:
        """Returns False: such an image can't have any."""
        return False

    def share_cache(self, chain: Sequence[Layer]) -> None:  # noqa: B027 - most formats have no tables to keep
        """Does nothing: such a layer keeps nothing in memory that grows."""

    def write(self, start: int, data: Bytes, below: Below | None) -> None:
        """Raises `InvalidRequest`."""
        raise self._refused("can't be written to")

    def write_compressed(self, start: int, data: memoryview, below: Below | None) -> None:
        """Raises `InvalidRequest`."""
        raise self._refused("has no compressed clusters")

    def zero(self, start: int, length: int, below: Below | None, *, unmap: bool) -> None:
        """Raises `InvalidRequest`."""
        raise self._refused("can't be written to")

    def discard(self, start: int, length: int, below: Below | None) -> None:
        """Raises `InvalidRequest`."""
        raise self._refused("can't be written to")

    def deallocate_all(self) -> None:
        """Raises `InvalidRequest`."""
        raise self._refused("can't be emptied")

    def resize(self, size: int, below: Below | None = None, below_size: int = 0) -> None:
        """Raises `InvalidRequest`."""
        raise self._refused("can't be resized")

    def preallocate(self, start: int, length: int, *, reserve: bool) -> None:
        """Raises `InvalidRequest`."""
        raise self._refused("has no clusters that could be preallocated")

    def set_backing(self, reference: BackingReference | None, *, without: int | None = None) -> None:
        """Raises `InvalidRequest`."""
        raise self._refused("has no backing file")

    def require_room_for(self, reference: BackingReference | None) -> None:
        """Raises `InvalidRequest`."""
        raise self._refused("has no backing file")

    def set_extension(self, kind: int, data: bytes | None) -> None:
        """Raises `InvalidRequest`."""
        raise self._refused("has no place for it")

    def flush(self) -> None:
        """Makes every completed request durable."""
        if self.file.writable:
            self.file.flush()

    def close(self) -> None:
        """Flushes and closes, even if flushing fails. Closing twice is fine."""
        try:
            if not self.file.closed:
                self.flush()
        finally:
            self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _refused(self, why: str) -> InvalidRequest:
        return InvalidRequest(f"a {self.format} image {why}")
