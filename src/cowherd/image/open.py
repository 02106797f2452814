"""Opening an image with its chain of backing files."""

from __future__ import annotations

from cowherd.formats.qcow2.cache import TableCache
from cowherd.formats.qcow2.image import Qcow2
from cowherd.formats.raw import Raw
from cowherd.image.chain import READING, SHARED, WRITING, open_chain
from cowherd.image.disk import Disk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cowherd.formats.layer import Layer
    from cowherd.paths import PathName
    from cowherd.storage.hostfile import HostFile


def open_disk(
    path: PathName,
    *,
    format: str | None = None,
    writable: bool = False,
    backing: bool = True,
    force_share: bool = False,
) -> Disk:
    """Opens an image and, if `backing`, the chain under it.

    `format` is "raw" or "qcow2"; None guesses by the first bytes, which is only safe if no guest ever wrote this file as raw.
    A backing file without a recorded format is guessed likewise. The image is opened for writing if `writable`, backing files
    never. Locks are QEMU's; `force_share` reads an image that is in use, whose content may then change while it is read.

    Raises `HostFileError`, `ImageInUse`, `ImageFormatError`, `UnsupportedFeature`, `ImageCorrupt`, or `BackingFileError` for a
    backing file that can't be followed, a loop, or a chain longer than `cowherd.image.chain.MAX_CHAIN`.
    """
    use = WRITING if writable else SHARED if force_share else READING
    layers = open_chain(path, format, _layer, use=use, writable=writable, backing=backing)
    _share_cache(layers)
    return Disk(layers, writable=writable)


def disk_of(files: Iterable[tuple[HostFile, str]]) -> Disk:
    """Makes a disk for reading of a chain's open files and their formats, the image itself first. Raises as opening them."""
    layers = [_layer(file, format) for file, format in files]
    _share_cache(layers)
    return Disk(layers, writable=False)


def open_layer(path: PathName, *, format: str | None = None, writable: bool = False) -> Layer:
    """Opens one image file without its backing file."""
    return open_chain(path, format, _layer, use=WRITING if writable else READING, writable=writable, backing=False)[0]


def _layer(file: HostFile, format: str) -> Layer:
    return Qcow2(file) if format == "qcow2" else Raw(file)


def _share_cache(layers: list[Layer]) -> None:
    """Gives the whole chain one cache, so that its memory does not grow with the number of images."""
    cache = TableCache()
    for layer in layers:
        if isinstance(layer, Qcow2):
            layer.share_cache(cache)
