"""Several images of a herd held at once: each is locked through one descriptor, and their chains are opened under those locks.

The locks of one file exclude each other even inside one process. A job that reads a base through one overlay and writes to
it through another therefore locks each file once, here, and opens layers without locks of their own.
"""

from __future__ import annotations

import contextlib
from contextlib import ExitStack
from typing import TYPE_CHECKING

from cowherd.errors import UnsupportedFeature
from cowherd.formats import registry
from cowherd.image.disk import Disk
from cowherd.storage.hostfile import HostFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from cowherd.formats.layer import Layer
    from cowherd.herd.lineage.scan import Image, Key
    from cowherd.storage.locks import LockMode


class Holding:
    """Locks on images, all released when the block ends."""

    def __init__(self) -> None:
        self._files: dict[Key, HostFile] = {}

    def lock(self, images: Iterable[Image], mode: LockMode) -> None:
        """Locks each image as `mode` says, or changes the lock that is held. Raises `ImageInUse`, `HostFileError`."""
        for image in images:
            file = self._files.get(image.key)
            if file is not None:
                file.lock(mode)
            else:
                self._files[image.key] = _open_locked(image, mode)

    def file(self, image: Image) -> HostFile | None:
        """Returns the file of an image that is locked here, open for reading; the caller must not close it."""
        return self._files.get(image.key)

    def close(self) -> None:
        """Gives up all locks."""
        with ExitStack() as stack:
            for file in self._files.values():
                stack.callback(file.close)
            self._files = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Layers:
    """Images that are open to be read until the block ends, each once; nothing may write to them meanwhile.

    Those that `held` has locked are read through the descriptors that hold the locks.
    """

    def __init__(self, held: Holding | None = None) -> None:
        self._held = held or Holding()
        self._open: dict[Key, Layer] = {}
        self._own: list[Layer] = []

    def of(self, image: Image) -> Layer:
        """Returns an image alone. Raises as `disk`."""
        layer = self._open.get(image.key)
        if layer is None:
            layer = self._open[image.key] = self._opened(image)
            layer.share_cache(tuple(self._open.values()))
        return layer

    def disk(self, images: Iterable[Image]) -> Disk:
        """Returns `images` as one disk, the first on top, whatever backing files they name. The caller must not close it.

        Raises as `cowherd.image.open.open_disk`.
        """
        return Disk([self.of(image) for image in images], writable=False)

    @contextlib.contextmanager
    def alone(self, image: Image) -> Iterator[Disk]:
        """Gives the block the disk of an image without its backing file.

        An image that is not locked is closed after the block: a herd may have more images than a process may have files open.
        """
        if image.key in self._open or self._held.file(image):
            yield self.disk([image])
        else:
            with stacked([image]) as disk:
                yield disk

    def _opened(self, image: Image) -> Layer:
        file = self._held.file(image)
        if file is not None:
            return _layer_of(file, image)
        self._own.append(_layer(image, writable=False))
        return self._own[-1]

    def close(self) -> None:
        """Closes all files but those of the locks."""
        with ExitStack() as stack:
            for layer in self._own:
                stack.callback(layer.close)
            self._open, self._own = {}, []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def stacked(images: Sequence[Image], *, writable: bool = False) -> Disk:
    """Opens `images` as one disk, the first on top, without locks and whatever backing files they name.

    With `writable` the first one is opened for writing. Raises as `cowherd.image.open.open_disk`.
    """
    layers: list[Layer] = []
    try:
        for image in images:
            layers.append(_layer(image, writable=writable and not layers))
        return Disk(layers, writable=writable)
    except BaseException:
        for layer in layers:
            layer.close()
        raise


def _open_locked(image: Image, mode: LockMode) -> HostFile:
    """Opens an image without a lock, so that reading it does not change its time of last access, and then locks it."""
    file = HostFile.open(image.path, lock=None)
    try:
        file.lock(mode)
    except BaseException:
        file.close()
        raise
    return file


def _layer(image: Image, *, writable: bool) -> Layer:
    _require_known_format(image)
    if writable and not registry.named(image.format).writable:
        raise UnsupportedFeature(image.path, f"writing to an image of the format '{image.format}'")
    file = HostFile.open(image.path, writable=writable, lock=None)
    try:
        return _layer_of(file, image)
    except BaseException:
        file.close()
        raise


def _layer_of(file: HostFile, image: Image) -> Layer:
    _require_known_format(image)
    return registry.named(image.format).open(file)


def _require_known_format(image: Image) -> None:
    if not registry.named(image.format).is_known:
        raise UnsupportedFeature(image.path, f"the image format '{image.format}'")
