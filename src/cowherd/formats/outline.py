"""Outlines: where the bytes of an image lie, for images of so few tables that plain Python tells it before numpy is imported.

An outline knows raw files and qcow2 images with standard clusters. Whatever else it meets, also anything that breaks the
specification, it leaves to `cowherd.formats.raw` and `cowherd.formats.qcow2`, by raising `NotPlain`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from cowherd.formats.layer import BackingReference
from cowherd.formats.rawfile import RawFile
from cowherd.storage.hostfile import HostFile

if TYPE_CHECKING:
    from cowherd.kinds import Row


class NotPlain(Exception):
    """The image has something that only the full readers understand."""


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
        """Returns a cover of [start, end), which lies inside `size`. Raises `NotPlain`, `HostFileError`."""
        ...

    def empty_until(self, start: int) -> int:
        """Returns a guest byte at or after `start` before which the file stores nothing; see `Layer.empty_until`."""
        ...

    def close(self) -> None:
        """Closes the file."""
        ...


class RawOutline(RawFile):
    """A raw image; see `LayerOutline` and `RawFile`."""

    table_bytes = 0
    entries_met = 0
    depth = 0

    def rows(self, start: int, end: int) -> list[Row]:
        """Returns data where the host file has data and zeros for its holes."""
        return self._cover(start, end, self.depth)

    def close(self) -> None:
        """Closes the file."""
        self.file.close()
