"""Images whose format nobody here reads, as VMDK, VDI, VHDX, or an encrypted qcow2: they are sealed by the bytes of their files.

So they are guarded like others: what changes one is refused, and a change shows. What it does to the overlays can't be told.
"""

from __future__ import annotations

from cowherd.errors import CowherdError, ImageFormatError
from cowherd.formats.probe import KNOWN, probe_bytes
from cowherd.herd.seals.quick_check import record_of
from cowherd.storage.hostfile import HostFile
from cowherd.text import printable, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from cowherd.herd.lineage.scan import Image
    from cowherd.image.disk import Disk


class OpaqueImage(CowherdError):
    """Something needs the content of an image of which only the file is known. Attributes: `path`, `format`, `action`."""

    def __init__(self, path: Path, format: str, action: str):
        self.path, self.format, self.action = path, format, action

    def __str__(self) -> str:
        return (
            f"can't {self.action} {shown(self.path)}: of an image of format {printable(self.format)} only the file's bytes are "
            f"known. Put a copy of the file from before in its place; 'cowherd verify --full' says whether it is as sealed"
        )


_CRYPT_METHOD = slice(32, 36)
"""Where the qcow2 header says how the image is encrypted, 0 if it is not."""


def is_opaque(image: Image) -> bool:
    """Returns whether what is sealed, or is to be, are the bytes of an image's file. Raises `HostFileError`.

    A seal says so; without one it is so where the format is not one that cowherd opens, or the content is encrypted.
    """
    try:
        record = record_of(image)
    except ImageFormatError:
        record = None  # a damaged seal, which whoever reads it reports
    if record:
        return record.of_file
    if image.format not in KNOWN:
        return True
    if image.format != "qcow2":
        return False
    with HostFile.open(image.path, lock=None) as file:
        head = file.pread(0, _CRYPT_METHOD.stop)
    return probe_bytes(head) == "qcow" or head[_CRYPT_METHOD] != bytes(4)


def open_content(image: Image, *, of_file: bool, force_share: bool = False) -> Disk:
    """Opens what a seal of `image` is about: what a guest sees, or with `of_file` the file as it is. Raises as `open_disk`."""
    from cowherd.image.open import open_disk

    if of_file:
        return open_disk(image.path, format="raw", backing=False, force_share=force_share)
    return open_disk(image.path, format=image.format, force_share=force_share)


def refuse_opaque(image: Image, action: str) -> None:
    """Raises `OpaqueImage` for an image of which only the file's bytes are known, where `action` needs what guests see."""
    if is_opaque(image):
        raise OpaqueImage(image.path, image.format, action)
