"""The content digest of a raw disk, made while its bytes arrive: they are those that a guest sees."""

from __future__ import annotations

from array import array

from blake3 import blake3

from cowherd.herd.records.block import BLOCK
from cowherd.herd.records.digest_rows import Content
from cowherd.sizes import whole_sectors
from cowherd.storage.buffers import is_zero
from cowherd.storage.hostfile import Buffer


class FlatContent:
    """Takes the bytes of a raw disk in blocks of any length. Costs 32 bytes of memory for each 64 KiB that are not zeros."""

    def __init__(self) -> None:
        self._size, self._runs, self._digests = 0, array("q"), bytearray()
        self._begun = bytearray()

    def take(self, block: Buffer) -> None:
        """Takes the next bytes."""
        rest = memoryview(block)
        if self._begun:
            missing = BLOCK - len(self._begun)
            self._begun += rest[:missing]
            rest = rest[missing:]
            if len(self._begun) < BLOCK:
                return
            self._take_whole(memoryview(self._begun))
            self._begun = bytearray()
        whole = len(rest) // BLOCK * BLOCK
        for begin in range(0, whole, BLOCK):
            self._take_whole(rest[begin : begin + BLOCK])
        self._begun += rest[whole:]

    def finish(self) -> Content:
        """Returns the content. A disk is of whole sectors, and a last block that its end cuts short is filled up with zeros."""
        size = whole_sectors(self._size + len(self._begun))
        if self._begun:
            self._take_whole(memoryview(self._begun.ljust(BLOCK, b"\0")))
        return Content(size, self._runs, self._digests)

    def _take_whole(self, block: memoryview) -> None:
        number = self._size // BLOCK
        self._size += BLOCK
        if is_zero(block):
            return
        if self._runs and self._runs[-1] == number:
            self._runs[-1] = number + 1
        else:
            self._runs.extend((number, number + 1))
        self._digests += blake3(block).digest()
