"""The state that the parts of an open qcow2 image share: its file and its current header."""

from __future__ import annotations

from cowherd.formats.qcow2.header import Header, write_header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.storage.blocks import BlockFile


class ImageState:
    """The file and the current header of an open image. Every part reads the header from here, because writing changes it."""

    def __init__(self, file: BlockFile, header: Header):
        self.file, self.header = file, header

    def replace_header(self, header: Header) -> None:
        """Makes everything written so far durable, then the new header."""
        self.file.flush()
        write_header(self.file, header)
        self.file.flush()
        self.header = header
