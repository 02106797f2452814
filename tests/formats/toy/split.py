"""A format whose bytes lie in several files, as an image with an external data file or a VMDK of several extents has them.

The image itself is a magic number and a JSON list of [name, bytes]: files beside it, which hold the disk one behind the other.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from cowherd import extents as ext
from cowherd.extents import Extents
from cowherd.formats.readable import ReadableLayer
from cowherd.formats.registry import Format
from cowherd.storage.blocks import BlockFile
from cowherd.storage.joined import JoinedFile
from cowherd.storage.opening import open_file

MAGIC = b"SPLITIMG"


class Split(ReadableLayer):
    format = "split"
    granularity = 1

    def __init__(self, file: BlockFile):
        self.file = file
        parts = json.loads(file.pread(len(MAGIC), file.size() - len(MAGIC)))
        home = os.path.dirname(str(file.name))
        self._data = JoinedFile([(open_file(os.path.join(home, name)), length) for name, length in parts])

    @property
    def data(self) -> BlockFile:
        return self._data

    @property
    def size(self) -> int:
        return self._data.size()

    def extents(self, start: int, length: int) -> Extents:
        return ext.single(start, length, ext.DATA, host=start)

    def close(self) -> None:
        self._data.close()
        super().close()


class SplitFormat(Format):
    name = "split"

    def recognise(self, head: bytes) -> bool:
        return head.startswith(MAGIC)

    def open(self, file: BlockFile) -> Split:
        return Split(file)


SPLIT = SplitFormat()


def write_split(path: Path, content: bytes, *lengths: int) -> Path:
    """Makes an image that holds `content`, in files of these lengths and one with the rest."""
    parts, done = [], 0
    for number, length in enumerate([*lengths, len(content) - sum(lengths)]):
        name = f"{path.name}.{number}"
        path.with_name(name).write_bytes(content[done : done + length] + b"this does not count")
        parts.append([name, length])
        done += length
    path.write_bytes(MAGIC + json.dumps(parts).encode())
    return path
