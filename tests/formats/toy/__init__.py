"""A format that can only be read, as somebody outside of cowherd would add one.

A file is a magic number, the virtual size, the size of a chunk, and a table with the place of each chunk, 0 for one of zeros.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from cowherd import extents as ext
from cowherd.errors import ImageFormatError
from cowherd.extents import Extents
from cowherd.formats.readable import ReadableLayer
from cowherd.formats.registry import Format
from cowherd.storage.hostfile import HostFile

MAGIC = b"TOYCHUNK"
HEADER = struct.Struct("<8sQQ")


class Toy(ReadableLayer):
    """One toy image."""

    format = "toy"

    def __init__(self, file: HostFile):
        self.file = file
        head = file.pread(0, HEADER.size)
        if len(head) < HEADER.size or not head.startswith(MAGIC):
            raise ImageFormatError(file.path, "it is no toy image")
        _, self._size, self._chunk = HEADER.unpack(head)
        chunks = -(-self._size // self._chunk)
        self._places = np.frombuffer(file.pread(HEADER.size, 8 * chunks), "<i8")

    @property
    def size(self) -> int:
        return self._size

    @property
    def granularity(self) -> int:
        return self._chunk

    def extents(self, start: int, length: int) -> Extents:
        begins = np.arange(start // self._chunk, -(-(start + length) // self._chunk)) * self._chunk
        first = np.maximum(begins, start)
        last = np.minimum(begins + self._chunk, start + length)
        places = self._places[begins // self._chunk]
        hosts = np.where(places > 0, places + first - begins, ext.NOWHERE)
        kinds = np.where(places > 0, ext.DATA, ext.ZERO).astype(np.uint8)
        return ext.merge(ext.build(first, last - first, hosts, kinds))


class ToyFormat(Format):
    """The entry for the registry."""

    name = "toy"

    def recognise(self, head: bytes) -> bool:
        return head.startswith(MAGIC)

    def open(self, file: HostFile) -> Toy:
        return Toy(file)


TOY = ToyFormat()


def write_toy(path: Path, content: bytes, chunk: int = 65536) -> Path:
    """Makes a toy image that holds `content`, chunks of zeros left out and the others in reverse."""
    pieces = [content[at : at + chunk] for at in range(0, len(content), chunk)]
    place, places = -(-(HEADER.size + 8 * len(pieces)) // 512) * 512, [0] * len(pieces)
    with path.open("wb") as file:
        file.write(HEADER.pack(MAGIC, len(content), chunk))
        for index in reversed(range(len(pieces))):
            if any(pieces[index]):
                places[index] = place
                file.seek(place)
                file.write(pieces[index].ljust(chunk, b"\0"))
                place += chunk
        file.seek(HEADER.size)
        file.write(struct.pack(f"<{len(places)}q", *places))
    return path
