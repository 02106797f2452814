"""Gives an overlay another backing file.

Safe mode keeps what the overlay shows. Of the bytes that the overlay leaves to its backing file, it first writes those into the
overlay that the new backing file would show differently. The header gets the new backing file last, after a flush. Until then the
overlay shows the same with either, so an interrupted rebase has changed nothing that a guest can see.
"""

from __future__ import annotations

from cowherd.errors import InvalidRequest
from cowherd.formats import registry
from cowherd.formats.reference import BackingReference
from cowherd.image.header import change_header
from cowherd.ops.rebase.rebased import Rebased
from cowherd.storage.opening import open_file
from cowherd.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cowherd.extents import Ranges
    from cowherd.formats.layer import AnyHeader
    from cowherd.paths import PathName
    from cowherd.progress import Progress
    from cowherd.storage.blocks import Opener


def rebase(
    overlay: PathName,
    backing: str | None,
    *,
    format: str | None = None,
    backing_format: str | None = None,
    unsafe: bool = False,
    compress: bool = False,
    force_share: bool = False,
    differs: Ranges | None = None,
    keep_snapshots: bool = True,
    without: int | None = None,
    opener: Opener = open_file,
    progress: Progress | None = None,
) -> Rebased:
    """Makes `backing` (stored as given, relative to the overlay; None or "" for none) the backing file of `overlay`.

    The overlay shows the same content afterwards, unless `unsafe`: then only the name changes, and no backing file is opened.
    `compress` writes whole clusters compressed. `force_share` reads a new backing file that is in use. Outside of the guest
    ranges `differs` both backing files are known to show the same, so nothing is read there. Internal snapshots can't be written
    to: `keep_snapshots` refuses a rebase, unless it is `unsafe`, that would make a snapshot show other bytes. The header
    extension of type `without`, which is about the old backing file, goes away with the old name. `opener` lends the files that
    the caller holds. `progress` is called with (bytes done, bytes in all).

    Raises `InvalidRequest`, `NewBackingFileError`, `SnapshotsWouldChange` with nothing changed, and what opening the overlay's
    chain raises.
    """
    reference = BackingReference(backing, backing_format) if backing else None
    if backing_format is not None and not registry.named(backing_format).is_known:
        raise InvalidRequest(f"Invalid format name: '{printable(backing_format)}'")
    complete = reference is None or reference.format is not None

    def changed(header: AnyHeader) -> AnyHeader:
        return (header if without is None else header.with_extension(without, None)).with_backing(reference)

    if unsafe and complete and change_header(overlay, changed, format=format, opener=opener):
        return Rebased()
    from cowherd.ops.rebase.keeping_content import rebase_disk

    return rebase_disk(
        overlay,
        reference,
        format=format,
        unsafe=unsafe,
        compress=compress,
        force_share=force_share,
        differs=differs,
        keep_snapshots=keep_snapshots,
        without=without,
        opener=opener,
        progress=progress,
    )
