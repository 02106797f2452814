"""Digests of whole files, several in one reading."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cowherd.progress import Progress
    from cowherd.storage.hostfile import Buffer, HostFile

ALGORITHMS = ("sha512", "sha256")
"""The hashes that an image service may tell of an image, by the names of hashlib."""
_BLOCK = 4 << 20


class Digests:
    """Takes bytes in order; each digest is made in a thread of its own."""

    def __init__(self, names: Iterable[str] = ALGORITHMS):
        self._hashes = {name: hashlib.new(name) for name in names}
        self._pool = ThreadPoolExecutor(len(self._hashes))

    def update(self, block: Buffer) -> None:
        """Takes the next bytes."""
        list(self._pool.map(lambda one: one.update(block), self._hashes.values()))

    def finish(self) -> dict[str, str]:
        """Returns the digests in hexadecimal digits by their names."""
        self._pool.shutdown()
        return {name: one.hexdigest() for name, one in self._hashes.items()}


def hash_file(file: HostFile, names: Iterable[str] = ALGORITHMS, progress: Progress | None = None) -> dict[str, str]:
    """Returns the digests of a file's bytes. Raises `HostFileError`."""
    digests, size = Digests(names), file.size()
    feed(digests, file, size, progress)
    return digests.finish()


def feed(digests: Digests, file: HostFile, size: int, progress: Progress | None = None) -> None:
    """Gives the first `size` bytes of a file to `digests`."""
    for begin in range(0, size, _BLOCK):
        digests.update(file.pread(begin, min(_BLOCK, size - begin)))
        if progress:
            progress(min(begin + _BLOCK, size), size)
