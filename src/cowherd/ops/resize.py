"""Changes an image's virtual size, and can reserve space for the bytes that it gains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.errors import HostFileError, InvalidRequest
from cowherd.formats import registry
from cowherd.formats.layer import Layer
from cowherd.formats.qcow2.options import PREALLOCATIONS
from cowherd.image.disk import Disk
from cowherd.image.open import open_disk
from cowherd.ops.create import refuse_to_preallocate
from cowherd.sizes import SECTOR
from cowherd.text import printable

if TYPE_CHECKING:
    from cowherd.paths import PathName

_MAX_SIZE = (1 << 63) - 1


def resize(
    path: PathName,
    size: int,
    *,
    format: str | None = None,
    shrink: bool = False,
    preallocation: str = "off",
) -> None:
    """Makes the disk `size` bytes large, by the rules of qemu-img resize; new bytes read as zeros.

    A smaller size needs `shrink`, and loses the bytes past it. `preallocation` reserves host space for new bytes: "off" reserves
    none, "falloc" and "full" reserve it all, "metadata" (qcow2 only) maps clusters to offsets in the file, without space.

    Raises `InvalidRequest` for a size or a mode that makes no sense here, what opening raises, and `HostFileError`.
    """
    with open_disk(path, format=format, writable=True) as disk:
        _check(disk, size, preallocation, shrink=shrink)
        top, old_size = disk.layers[0], disk.size
        if registry.named(top.format).verbatim:
            _resize_file(top, size, reserve=preallocation != "off")
        else:
            disk.resize(size)
            if preallocation != "off":
                top.preallocate(old_size, size - old_size, reserve=preallocation != "metadata")
        disk.flush()


def _check(disk: Disk, size: int, preallocation: str, *, shrink: bool) -> None:
    if size <= 0:
        raise InvalidRequest("New image size must be positive")
    if size > _MAX_SIZE:
        raise InvalidRequest(f"New image size must not be larger than {_MAX_SIZE} bytes")
    if preallocation not in PREALLOCATIONS:
        raise InvalidRequest(f"Invalid preallocation mode '{printable(preallocation)}'")
    if size <= disk.size and preallocation != "off":
        raise InvalidRequest("Preallocation can only be used for growing images")
    if size < disk.size and not shrink:
        raise InvalidRequest("Use the --shrink option to perform a shrink operation.")
    if registry.named(disk.format).verbatim:
        _check_file(disk.layers[0], size, preallocation)
        return
    refuse_to_preallocate(disk.layers[0].file, preallocation)
    if size % SECTOR:
        raise InvalidRequest(f"The new size must be a multiple of {SECTOR}")


def _check_file(layer: Layer, size: int, preallocation: str) -> None:
    if layer.file.is_block_device:
        if preallocation != "off":
            raise InvalidRequest(f"Preallocation mode '{preallocation}' unsupported for this non-regular file")
        if size != layer.size:
            raise InvalidRequest("Cannot resize device files")
    if preallocation == "metadata":
        raise InvalidRequest("Unsupported preallocation mode: metadata")


def _resize_file(layer: Layer, size: int, *, reserve: bool) -> None:
    """Sets a raw file's length. If reserving space fails, the file gets its old length back."""
    old_length = layer.file.size()
    if layer.file.is_block_device:
        return
    layer.resize(size, None, 0)
    if reserve:
        try:
            layer.file.preallocate(old_length, size - old_length)
        except HostFileError:
            layer.resize(old_length, None, 0)
            raise
