"""Images in formats that cowherd does not read (VMDK, VDI, VHDX, encrypted qcow2): they are sealed by the bytes of their files.

So they are guarded like others: cowherd refuses to change one, and a change shows. What a change does to the overlays is unknown.
"""

from __future__ import annotations

from cowherd.errors import CowherdError, ImageFormatError
from cowherd.formats import registry
from cowherd.herd.seals.quick_check import record_of
from cowherd.storage.opening import open_file
from cowherd.text import printable, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from cowherd.herd.lineage.scan import Image
    from cowherd.image.reading import Reading
    from cowherd.storage.blocks import Opener


class OpaqueImage(CowherdError):
    """A command needs the guest content of an image whose format cowherd can't read. Attributes: `path`, `format`, `action`."""

    def __init__(self, path: Path, format: str, action: str):
        self.path, self.format, self.action = path, format, action

    def __str__(self) -> str:
        return (
            f"can't {self.action} {shown(self.path)}: of an image of format {printable(self.format)} only the file's bytes are "
            f"known. Put a copy of the file from before in its place; 'cowherd verify --full' says whether it is as sealed"
        )


def is_opaque(image: Image, opener: Opener = open_file) -> bool:
    """Returns whether an image is sealed, or has to be sealed, by the bytes of its file. Raises `HostFileError`.

    A seal says so itself; without one, it is so if cowherd does not open the format, or the content is encrypted.
    """
    try:
        record = record_of(image)
    except ImageFormatError:
        record = None  # a damaged seal is reported where its digests are read
    if record:
        return record.of_file
    format = registry.named(image.format)
    if not format.is_known:
        return True
    if not format.encrypted:
        return False
    file = opener(image.path)
    try:
        return format.is_encrypted(file)
    finally:
        file.close()


def open_content(image: Image, *, of_file: bool, force_share: bool = False, opener: Opener = open_file) -> Reading:
    """Opens what a seal of `image` covers: what a guest sees, or with `of_file` the bytes of the file.

    Raises as `open_reading`.
    """
    from cowherd.image.reading import open_reading

    if of_file:
        return open_reading(image.path, format=registry.RAW.name, backing=False, force_share=force_share, opener=opener)
    return open_reading(image.path, format=image.format, force_share=force_share, opener=opener)


def refuse_opaque(image: Image, action: str) -> None:
    """Raises `OpaqueImage` for an image that is sealed by the bytes of its file, if `action` needs what guests see."""
    if is_opaque(image):
        raise OpaqueImage(image.path, image.format, action)
