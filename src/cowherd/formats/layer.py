"""What every opened format gives to the image layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Protocol, Self

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.extents import Extents
    from cowherd.formats.reference import BackingReference
    from cowherd.kinds import Row
    from cowherd.storage.copying import Bytes
    from cowherd.storage.hostfile import HostFile

Below = Callable[[int, memoryview], None]
"""Reads guest bytes from what lies under a layer: `below(guest_offset, buffer)` fills the buffer, zeros past the end."""


class ClosingLayer(ABC):
    """How every format closes: what is pending is flushed, and the file is closed even if that fails."""

    file: HostFile

    @abstractmethod
    def flush(self) -> None:
        """Makes every completed request durable."""

    def close(self) -> None:
        """Flushes and closes. Closing twice is fine."""
        try:
            if self.file.fd >= 0:
                self.flush()
        finally:
            self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Layer(Protocol):
    """One opened image file, without its backing file. All offsets and lengths are guest bytes.

    Reading methods may be called from several threads at once as long as no thread changes the image.
    """

    format: str
    file: HostFile

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

    def extents(self, start: int, length: int) -> Extents:
        """Returns a cover of [start, start+length), which must lie inside `size`; `depth` is 0 throughout."""
        ...

    def empty_until(self, start: int) -> int:
        """Returns a guest byte at or after `start` before which the file stores nothing; `ENDLESS` if nothing follows at all.

        Up to there an answer of `extents` is short, however long the range.
        """
        ...

    def read_compressed(self, parts: Iterable[tuple[int, memoryview]]) -> None:
        """Fills each buffer with guest bytes, from the offset beside it on, that lie in extents of kind COMPRESSED."""
        ...

    def write(self, start: int, data: Bytes, below: Below | None) -> None:
        """Writes guest bytes; parts of newly allocated clusters that `data` leaves open are filled from `below`."""
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

    def resize(self, size: int) -> None:
        """Changes the virtual size; bytes that are gained read as zeros even where a backing file is larger."""
        ...

    def close(self) -> None:
        """Flushes and closes. Closing twice is fine."""
        ...


class LayerOutline(Protocol):
    """One opened image file, without its backing file. Offsets and lengths are guest bytes."""

    file: HostFile
    format: str
    depth: int
    """Its place in its chain, 0 is the top."""

    entries_met: int
    """Table entries that lead anywhere, as far as tables were looked at."""

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
        """Fills buffers with guest bytes of compressed clusters; see `Layer.read_compressed`."""
        ...

    def close(self) -> None:
        """Closes the file."""
        ...
