"""Bindings: an overlay's record, in its own qcow2 header, of the base that it was made on.

cowherd keeps it in a header extension of its own. QEMU preserves extensions that it does not know, so a binding survives copies
of the overlay, rebase -u, snapshots, resizes and commits, and also a base that is replaced together with its seal. Its data,
big-endian:

    offset  bytes  what
    0       2      version, 1
    2       2      zero
    4       4      bytes of a block, 65536
    8       8      generation of the seal
    16      16     id of the seal
    32      32     content digest of the base
"""

from __future__ import annotations

import struct

from cowherd.errors import ImageFormatError, InvalidRequest
from cowherd.formats import registry
from cowherd.herd.records.block import BLOCK
from cowherd.herd.records.faults import BindingImpossible
from cowherd.storage.opening import open_file
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cowherd.formats.layer import AnyHeader
    from cowherd.formats.qcow2.header import Header
    from cowherd.herd.records.sealrecord import SealRecord
    from cowherd.image.disk import Disk
    from cowherd.paths import PathName
    from cowherd.storage.blocks import Opener

EXTENSION_TYPE = 0x436F5768
"""The header extension's type: "CoWh" in ASCII."""

_VERSION = 1
_DATA = struct.Struct(">HHIQ16s32s")


class Binding(NamedTuple):
    """The base that an overlay was made on: its content digest (32 bytes), and its seal's id (16 bytes) and generation."""

    content_digest: bytes
    seal_id: bytes
    generation: int

    @classmethod
    def to(cls, seal: SealRecord) -> Binding:
        """Returns the binding to a sealed base."""
        return cls(seal.content_digest, seal.seal_id, seal.generation)

    def pack(self) -> bytes:
        """Returns the data of the header extension."""
        return _DATA.pack(_VERSION, 0, BLOCK, self.generation, self.seal_id, self.content_digest)


def binding_in(header: Header, path: PathName) -> Binding | None:
    """Returns the binding in the header of the image at `path`, or None.

    Raises `ImageFormatError` if the binding is damaged, or a newer cowherd wrote it.
    """
    return parse_binding([extension.data for extension in header.extensions if extension.type == EXTENSION_TYPE], path)


def parse_binding(found: Sequence[bytes], path: PathName) -> Binding | None:
    """Returns the binding that the header extensions of its type hold, None if there are none. Raises as `binding_in`."""
    if not found:
        return None
    data = found[-1]
    if any(other != data for other in found):
        # QEMU reverses the order of the extensions that it does not know whenever it writes the header, so the order says
        # nothing about which of two bindings is the newer.
        raise ImageFormatError(path, "it holds two bindings that contradict each other")
    if len(data) < 2:
        raise ImageFormatError(path, "its binding is damaged")
    version = int.from_bytes(data[:2], "big")
    if version != _VERSION:
        raise ImageFormatError(path, f"its binding was written by a newer cowherd (version {version})")
    if len(data) != _DATA.size:
        raise ImageFormatError(path, "its binding is damaged")
    _, _, block, generation, seal_id, digest = _DATA.unpack(data)
    if block != BLOCK:
        raise ImageFormatError(path, f"its binding counts blocks of {block} bytes")
    return Binding(digest, seal_id, generation)


def with_binding(header: AnyHeader, binding: Binding | None) -> AnyHeader:
    """Returns a header with `binding`, or without one if that is None; whether it fits shows when it is packed."""
    return header.with_extension(EXTENSION_TYPE, binding.pack() if binding else None)


def write_binding(overlay: PathName, binding: Binding | None, opener: Opener = open_file) -> None:
    """Records `binding` in the header of the qcow2 image `overlay`; with None it removes the binding there.

    Only the header changes. `opener` lends the file if the caller holds it. Raises `BindingImpossible` where the binding does not
    fit, `ImageInUse` if a process has the image open.
    """
    from cowherd.image.header import change_header

    if change_header(overlay, lambda header: with_binding(header, binding), format=registry.OVERLAY, opener=opener):
        return
    from cowherd.image.open import open_disk

    with open_disk(overlay, format=registry.OVERLAY, writable=True, backing=False, opener=opener) as disk:
        set_binding(disk, binding)


def set_binding(overlay: Disk, binding: Binding | None) -> None:
    """Does what `write_binding` does, to an overlay that is open for writing. Raises `BindingImpossible`."""
    try:
        overlay.layers[0].set_extension(EXTENSION_TYPE, binding.pack() if binding else None)
    except InvalidRequest as error:
        raise BindingImpossible(overlay.path, error.problem) from error


def set_binding_if_it_fits(overlay: Disk, binding: Binding | None) -> list[tuple[Path, str]]:
    """Does the same, and returns the overlay and why its header can't hold the binding, if so: it works on without one."""
    try:
        set_binding(overlay, binding)
    except BindingImpossible as error:
        return [(overlay.path, str(error))]
    return []


def read_binding(overlay: PathName) -> Binding | None:
    """Returns the binding in the header of a qcow2 image, or None. Raises as `binding_in` and `read_header`."""
    from cowherd.formats.qcow2.header import read_header
    from cowherd.storage.hostfile import HostFile

    with HostFile.open(overlay, lock=None) as file:
        return binding_in(read_header(file), overlay)
