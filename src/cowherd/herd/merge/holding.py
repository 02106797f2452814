"""Several images of a herd held at once, and their chains opened under the locks that are held.

A merge reads a base through one overlay and writes to it through another: so it locks each file once, and opens layers without
locks of their own.
"""

from __future__ import annotations

import contextlib
from contextlib import ExitStack
from typing import TYPE_CHECKING

from cowherd.errors import UnsupportedFeature
from cowherd.formats import registry
from cowherd.image.disk import Disk
from cowherd.storage.opening import open_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from cowherd.formats.layer import Layer
    from cowherd.herd.lineage.scan import Image, Key
    from cowherd.storage.blocks import Opener
    from cowherd.storage.holding import Holding
    from cowherd.storage.locks import LockMode


def lock_all(held: Holding, images: Iterable[Image], mode: LockMode) -> None:
    """Locks each image as `mode` says. Raises `ImageInUse`, `HostFileError`."""
    for image in images:
        held.lock(image.path, mode)


class Layers:
    """Images that are open to be read until the block ends, each once; nothing may write to them meanwhile.

    Those that are `held` are read through the descriptors that hold the locks.
    """

    def __init__(self, held: Holding) -> None:
        self._held = held
        self._open: dict[Key, Layer] = {}

    def of(self, image: Image) -> Layer:
        """Returns an image alone. Raises as `disk`."""
        layer = self._open.get(image.key)
        if layer is None:
            layer = self._open[image.key] = _layer(image, writable=False, opener=self._held.open)
            layer.share_cache(tuple(self._open.values()))
        return layer

    def disk(self, images: Iterable[Image]) -> Disk:
        """Returns `images` as one disk, the first on top, whatever backing files they name. The caller must not close it.

        Raises as `cowherd.image.open.open_disk`.
        """
        return Disk([self.of(image) for image in images], writable=False)

    @contextlib.contextmanager
    def alone(self, image: Image) -> Iterator[Disk]:
        """Gives the block the disk of an image without its backing file, which is closed after the block if the block opens it.

        A herd may have more images than a process may have files open, or tables in memory.
        """
        if image.key in self._open:
            yield self.disk([image])
        else:
            self._open[image.key] = _layer(image, writable=False, opener=self._held.open)
            try:
                yield self.disk([image])
            finally:
                self._open.pop(image.key).close()

    def close(self) -> None:
        """Closes all files but those of the locks."""
        with ExitStack() as stack:
            for layer in self._open.values():
                stack.callback(layer.close)
            self._open = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def stacked(images: Sequence[Image], *, writable: bool = False, opener: Opener = open_file) -> Disk:
    """Opens `images` as one disk, the first on top, without locks and whatever backing files they name.

    With `writable` the first one is opened for writing. `opener` lends the files that the caller holds. Raises as
    `cowherd.image.open.open_disk`.
    """
    layers: list[Layer] = []
    try:
        for image in images:
            layers.append(_layer(image, writable=writable and not layers, opener=opener))
        return Disk(layers, writable=writable)
    except BaseException:
        for layer in layers:
            layer.close()
        raise


def _layer(image: Image, *, writable: bool, opener: Opener) -> Layer:
    _require_known_format(image)
    if writable and not registry.named(image.format).writable:
        raise UnsupportedFeature(image.path, f"writing to an image of the format '{image.format}'")
    file = opener(image.path, writable=writable)
    try:
        return registry.named(image.format).open(file)
    except BaseException:
        file.close()
        raise


def _require_known_format(image: Image) -> None:
    if not registry.named(image.format).is_known:
        raise UnsupportedFeature(image.path, f"the image format '{image.format}'")
