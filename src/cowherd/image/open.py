"""Opens an image with its chain of backing files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.formats import registry
from cowherd.image.chain import READING, SHARED, WRITING, open_chain
from cowherd.image.disk import Disk
from cowherd.storage.opening import open_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cowherd.formats.layer import Layer
    from cowherd.storage.blocks import BlockFile, Opener
    from cowherd.urls import ImageName


def open_disk(
    path: ImageName,
    *,
    format: str | None = None,
    writable: bool = False,
    backing: bool = True,
    force_share: bool = False,
    opener: Opener = open_file,
) -> Disk:
    """Opens an image and, if `backing`, the chain under it.

    `format` names a format of `cowherd.formats.registry`, such as "raw" or "qcow2"; None guesses it from the first bytes, which
    is only safe if no guest ever wrote this file as raw. The format of a backing file is guessed likewise if none is recorded.
    `writable` opens the image for writing, but never its backing files. Locks are QEMU's; `force_share` reads an image that is in
    use: its content may then change while it is read. `opener` opens the files, or lends those that the caller holds.

    Raises `HostFileError`, `ImageInUse`, `ImageFormatError`, `UnsupportedFeature` (also for a format that can only be read, if
    `writable`), `ImageCorrupt`, or `BackingFileError` for a backing file that can't be followed, a loop, or a chain longer than
    `cowherd.image.chain.MAX_CHAIN`.
    """
    use = WRITING if writable else SHARED if force_share else READING
    layers = open_chain(path, format, _layer, use=use._replace(opener=opener), writable=writable, backing=backing)
    for layer in layers:
        layer.share_cache(layers)
    return Disk(layers, writable=writable)


def disk_of(files: Iterable[tuple[BlockFile, str]]) -> Disk:
    """Makes a read-only disk of a chain's open files and their formats, the image itself first. Raises what opening them does."""
    layers = [_layer(file, format) for file, format in files]
    for layer in layers:
        layer.share_cache(layers)
    return Disk(layers, writable=False)


def open_layer(path: ImageName, *, format: str | None = None, writable: bool = False) -> Layer:
    """Opens one image file without its backing file."""
    return open_chain(path, format, _layer, use=WRITING if writable else READING, writable=writable, backing=False)[0]


def _layer(file: BlockFile, format: str) -> Layer:
    return registry.named(format).open(file)
