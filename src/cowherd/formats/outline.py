"""Outlines tell where the bytes of an image lie, for images of so few tables that Python is done before numpy is imported.

Outlines understand raw files and qcow2 images with standard clusters. For everything else, and for anything that breaks the
specification, they raise `NeedsArrays`, and leave the image to `cowherd.formats.raw` and `cowherd.formats.qcow2`.
`cowherd.image` catches that exception, so that none of its callers sees it.
"""

from __future__ import annotations

from cowherd.formats.rawfile import RawFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cowherd.kinds import Row


class NeedsArrays(Exception):
    """The image has something that only the full readers understand."""


class RawOutline(RawFile):
    """A raw image; see `cowherd.formats.layer.LayerOutline` and `RawFile`."""

    table_bytes = 0
    entries_met = 0
    depth = 0
    has_subclusters = False

    def metadata_preallocated(self) -> bool:
        """Returns False: holes are told as such."""
        return False

    def bitmaps(self) -> None:
        """Returns None: such an image can't have any."""

    def rows(self, start: int, end: int) -> list[Row]:
        """Returns data where the host file has data and zeros for its holes."""
        return self._cover(start, end, self.depth)

    def units_with_data(self) -> None:
        """Returns None: `rows` tells."""

    def read_compressed(self, parts: Iterable[tuple[int, memoryview]]) -> None:
        """Never called: a raw image has no compressed clusters."""
        raise AssertionError("a raw image has no compressed clusters")

    def close(self) -> None:
        """Closes the file."""
        self.file.close()
