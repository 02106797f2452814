"""Changes the header of an image and nothing else, with the locks and checks of a writer, and without numpy."""

from __future__ import annotations

from cowherd.errors import InvalidRequest
from cowherd.formats import registry
from cowherd.formats.outline import NeedsArrays
from cowherd.image.chain import WRITING, open_chain
from cowherd.storage.opening import open_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.formats.layer import EditableHeader, HeaderChange
    from cowherd.paths import PathName
    from cowherd.storage.blocks import BlockFile, Opener


def change_header(path: PathName, change: HeaderChange, *, format: str | None = None, opener: Opener = open_file) -> bool:
    """Replaces the header of the image at `path` by what `change` makes of it, durably; the guest sees the same.

    Returns False, with nothing done, if the caller must use `cowherd.image.open.open_disk` to make the change, or to learn why it
    is impossible: for a format without such a header, an image that its last writer did not close, one with persistent bitmaps,
    a header without room.
    A format of None is guessed. Raises what opening the image for writing raises.
    """
    try:
        (image,) = open_chain(path, format, _header_of, use=WRITING._replace(opener=opener), writable=True, backing=False)
    except NeedsArrays:
        return False
    try:
        image.change(change)
    except InvalidRequest:
        return False
    finally:
        image.close()
    return True


def _header_of(file: BlockFile, format: str) -> EditableHeader:
    return registry.named(format).header(file)
