"""Opening an image with its chain of backing files."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cowherd.errors import BackingFileError, HostFileError, ImageFormatError, UnsupportedFeature
from cowherd.formats import probe
from cowherd.formats.layer import BackingReference, Layer
from cowherd.formats.qcow2.cache import TableCache
from cowherd.formats.qcow2.image import Qcow2
from cowherd.formats.raw import Raw
from cowherd.image.backing import resolve
from cowherd.image.disk import Disk
from cowherd.storage import locks
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import LockMode

MAX_CHAIN = 1024
"""Longest chain that is followed; each layer costs a file descriptor."""


@dataclass(frozen=True)
class _Use:
    """What the opener will do with the chain's files, as locks: on qcow2 and on raw, on the top and on what lies under it."""

    top: LockMode | None
    top_raw: LockMode | None
    below: LockMode | None


_READING = _Use(locks.READ, locks.READ_RAW, locks.READ)
_WRITING = _Use(locks.WRITE, locks.RESIZE_RAW, locks.READ)
_SHARED = _Use(locks.READ_SHARED, locks.READ_SHARED, locks.READ_SHARED)


def open_disk(
    path: str | os.PathLike[str],
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
    backing file that can't be followed, a loop, or a chain longer than `MAX_CHAIN`.
    """
    use = _WRITING if writable else _SHARED if force_share else _READING
    layers: list[Layer] = []
    try:
        layers.append(_open_top(path, format, writable=writable, use=use))
        if backing:
            _open_backing_files(layers, use)
        _share_cache(layers)
        return Disk(layers, writable=writable)
    except BaseException:
        for layer in layers:
            layer.close()
        raise


def _share_cache(layers: list[Layer]) -> None:
    """Gives the whole chain one cache, so that its memory does not grow with the number of images."""
    cache = TableCache()
    for layer in layers:
        if isinstance(layer, Qcow2):
            layer.share_cache(cache)


def open_layer(path: str | os.PathLike[str], *, format: str | None = None, writable: bool = False) -> Layer:
    """Opens one image file without its backing file."""
    return _open_top(path, format, writable=writable, use=_WRITING if writable else _READING)


def _open_top(path: str | os.PathLike[str], format: str | None, *, writable: bool, use: _Use) -> Layer:
    file = HostFile.open(path, writable=writable, lock=None)
    return _as_layer(file, format, use.top, use.top_raw)


def _open_backing_files(layers: list[Layer], use: _Use) -> None:
    visited = {(layers[0].file.device, layers[0].file.inode)}
    while (stored := layers[-1].backing) is not None:
        overlay = layers[-1].file.path
        if len(layers) >= MAX_CHAIN:
            raise BackingFileError(overlay, stored.name, f"the chain is longer than {MAX_CHAIN} images")
        layers.append(_open_backing(overlay, stored, use, visited))


def _open_backing(overlay: os.PathLike[str], stored: BackingReference, use: _Use, visited: set[tuple[int, int]]) -> Layer:
    reference = resolve(overlay, stored)
    try:
        file = HostFile.open(reference.name, lock=None)
    except HostFileError as error:
        raise BackingFileError(overlay, stored.name, str(error)) from error
    identity = file.device, file.inode
    if identity in visited:  # asked before the lock, which an image that is being written would not give to itself
        file.close()
        raise BackingFileError(overlay, stored.name, "the chain is a loop: this file is an overlay of itself")
    visited.add(identity)
    try:
        return _as_layer(file, reference.format, use.below, use.below)
    except UnsupportedFeature as error:
        raise BackingFileError(overlay, stored.name, str(error)) from error
    except ImageFormatError as error:
        raise BackingFileError(overlay, stored.name, error.problem) from error


def _as_layer(file: HostFile, format: str | None, lock: LockMode | None, lock_raw: LockMode | None) -> Layer:
    """Opens `file` as `format` (None: guesses), and closes it if that fails."""
    try:
        name = probe.probe(file) if format is None else format
        if name not in probe.KNOWN:
            raise UnsupportedFeature(file.path, f"the image format '{name}'")
        mode = lock if name == "qcow2" else lock_raw
        if mode is not None:
            file.lock(mode)
        return Qcow2(file) if name == "qcow2" else Raw(file)
    except BaseException:
        file.close()
        raise
