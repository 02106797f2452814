"""Several images of a herd held at once: each is locked through one descriptor, and their chains are opened under those locks.

The locks of one file exclude each other even inside one process. A job that reads a base through one overlay and writes to
it through another therefore locks each file once, here, and opens layers without locks of their own.
"""

from __future__ import annotations

import contextlib
from contextlib import ExitStack

from cowherd.errors import UnsupportedFeature
from cowherd.formats.qcow2.cache import TableCache
from cowherd.formats.qcow2.image import Qcow2
from cowherd.formats.raw import Raw
from cowherd.image.disk import Disk
from cowherd.storage.hostfile import HostFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from cowherd.formats.layer import Layer
    from cowherd.herd.lineage.scan import Image, Key
    from cowherd.storage.locks import LockMode


class Holding:
    """Locks on images, given back together when the block ends."""

    def __init__(self) -> None:
        self._files: dict[Key, HostFile] = {}

    def lock(self, images: Iterable[Image], mode: LockMode) -> None:
        """Locks each image as `mode` says, or changes the lock that is held. Raises `ImageInUse`, `HostFileError`."""
        for image in images:
            if image.key in self._files:
                self._files[image.key].lock(mode)
            else:
                self._files[image.key] = HostFile.open(image.path, lock=mode)

    def holds(self, image: Image) -> bool:
        """Returns whether an image is locked here."""
        return image.key in self._files

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
    """Images that are read under the locks of `held`, each opened once, until the block ends.

    They have descriptors of their own: one that was opened to lock a file would leave a time of reading at it. Images that are
    not held are opened each time, as a herd may have more than a process may have files open.
    """

    def __init__(self, held: Holding) -> None:
        self._held = held
        self._open: dict[Key, Layer] = {}
        self._cache = TableCache()

    def disk(self, images: Iterable[Image]) -> Disk:
        """Returns `images` as one disk, the first on top, whatever backing files they name. It is not for the caller to close.

        Raises as `cowherd.image.open.open_disk`.
        """
        return Disk([self.of(image) for image in images], writable=False)

    @contextlib.contextmanager
    def alone(self, image: Image) -> Iterator[Disk]:
        """Gives the block the disk of an image without its backing file, which lives no longer than the block."""
        if image.key in self._open or self._held.holds(image):
            yield self.disk([image])
        else:
            with stacked([image]) as disk:
                yield disk

    def of(self, image: Image) -> Layer:
        """Returns an image alone. Raises as `disk`."""
        layer = self._open.get(image.key)
        if layer is None:
            layer = self._open[image.key] = _layer(image, writable=False)
            if isinstance(layer, Qcow2):
                layer.share_cache(self._cache)
        return layer

    def close(self) -> None:
        """Closes all files."""
        with ExitStack() as stack:
            for layer in self._open.values():
                stack.callback(layer.close)
            self._open = {}

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


def _layer(image: Image, *, writable: bool) -> Layer:
    if image.format not in ("qcow2", "raw"):
        raise UnsupportedFeature(image.path, f"the image format '{image.format}'")
    file = HostFile.open(image.path, writable=writable, lock=None)
    try:
        return Qcow2(file) if image.format == "qcow2" else Raw(file)
    except BaseException:
        file.close()
        raise
