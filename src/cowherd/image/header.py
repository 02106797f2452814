"""Changing the header of a qcow2 image and nothing else, with the locks and checks of a writer, and without numpy."""

from __future__ import annotations

import sys
from array import array

from cowherd.errors import InvalidRequest
from cowherd.formats.outline import NeedsArrays
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.header import Header, read_header
from cowherd.formats.qcow2.state import ImageState
from cowherd.image.chain import WRITING, open_chain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cowherd.formats.reference import BackingReference
    from cowherd.paths import PathName
    from cowherd.storage.blocks import BlockFile

_MOST_L1_ENTRIES = 1 << 14
_MOST_L2_BYTES = 1 << 30


def change_header(path: PathName, change: Callable[[Header], Header], *, format: str | None = None) -> bool:
    """Replaces the header of the image at `path` by what `change` makes of it, durably; what the guest sees stays as it was.

    Returns False, with nothing done, where `cowherd.image.open.open_disk` has to do it, or to say why it can't be done: for a raw
    image, one that its last writer did not close, one with persistent bitmaps, a header without room.
    A format of None is guessed. Raises what opening the image for writing raises.
    """
    try:
        (image,) = open_chain(path, format, _Plain, use=WRITING, writable=True, backing=False)
    except NeedsArrays:
        return False
    try:
        changed = change(image.state.header)
        changed.pack()
        image.state.replace_header(changed)
    except InvalidRequest:
        return False
    finally:
        image.close()
    return True


class _Plain:
    """An image whose header a writer may change without having done anything to the rest before."""

    def __init__(self, file: BlockFile, format: str):
        if format != "qcow2":
            raise NeedsArrays
        self.file, self.state = file, ImageState(file, read_header(file))
        if not _is_plain(self.state.header) or not _is_sound(file, self.state.header):
            raise NeedsArrays

    @property
    def backing(self) -> BackingReference | None:
        """The backing file that the image names, which nobody follows here."""
        return self.state.header.backing

    def close(self) -> None:
        """Closes the file."""
        self.file.close()


def _is_plain(header: Header) -> bool:
    unusual = header.crypt_method or header.external_data_file or header.dirty or header.corrupt or header.autoclear
    return not unusual and header.extension(layout.EXTENSION_BITMAPS) is None


def _is_sound(file: BlockFile, header: Header) -> bool:
    """Whether the L1 table is one that a writer accepts, and so short that it may name what it likes."""
    if header.l1_size > _MOST_L1_ENTRIES or header.l1_size * header.cluster_size > _MOST_L2_BYTES:
        return False
    words = array("Q", file.pread(header.l1_table_offset, header.l1_size * 8))
    if sys.byteorder == "little":
        words.byteswap()
    return not any(word & layout.L1_OFFSET_MASK & (header.cluster_size - 1) for word in words)
