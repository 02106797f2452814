"""Changes the header of a qcow2 image and nothing else, without numpy."""

from __future__ import annotations

import sys
from array import array

from cowherd.formats.outline import NeedsArrays
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.header import Header, read_header
from cowherd.formats.qcow2.state import ImageState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.formats.layer import HeaderChange
    from cowherd.formats.reference import BackingReference
    from cowherd.storage.blocks import BlockFile

_MOST_L1_ENTRIES = 1 << 14
_MOST_L2_BYTES = 1 << 30


class PlainHeader:
    """An image whose header a writer may change without doing anything to the rest first."""

    def __init__(self, file: BlockFile):
        """Raises `NeedsArrays` for an image that was not closed, that has persistent bitmaps, or whose L1 table is not sound."""
        self.file, self._state = file, ImageState(file, read_header(file))
        if not _is_plain(self._state.header) or not _is_sound(file, self._state.header):
            raise NeedsArrays

    @property
    def backing(self) -> BackingReference | None:
        """The backing file that the image names, or None; it is not opened."""
        return self._state.header.backing

    def change(self, change: HeaderChange) -> None:
        """Replaces the header, durably; see `EditableHeader.change`."""
        changed = change(self._state.header)
        changed.pack()
        self._state.replace_header(changed)

    def close(self) -> None:
        """Closes the file."""
        self.file.close()


def _is_plain(header: Header) -> bool:
    unusual = header.crypt_method or header.external_data_file or header.dirty or header.corrupt or header.autoclear
    return not unusual and header.extension(layout.EXTENSION_BITMAPS) is None


def _is_sound(file: BlockFile, header: Header) -> bool:
    """Whether a writer accepts the L1 table: its entries are aligned, and so few that they may repeat each other."""
    if header.l1_size > _MOST_L1_ENTRIES or header.l1_size * header.cluster_size > _MOST_L2_BYTES:
        return False
    words = array("Q", file.pread(header.l1_table_offset, header.l1_size * 8))
    if sys.byteorder == "little":
        words.byteswap()
    return not any(word & layout.L1_OFFSET_MASK & (header.cluster_size - 1) for word in words)
