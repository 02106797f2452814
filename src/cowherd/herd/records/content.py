"""The digests of a disk's content: a BLAKE3 digest for each block of 64 KiB, and the content digest over its size and these."""

from __future__ import annotations

import struct
import threading

from blake3 import blake3

from cowherd.herd.records.block import BLOCK
from cowherd.storage.buffers import page_aligned

ZERO_DIGEST = blake3(bytes(BLOCK)).digest()
BLOCKS_READ = 16
"""Blocks read at once: few enough to be still in the processor's cache when they are hashed."""

_HEAD = struct.Struct("<20sQIQ")
_TAG = b"cowherd content 1"
_FILE_TAG = b"cowherd file 1"


class BlockHasher:
    """Buffers to read blocks into, one for each thread, and the digests of what they hold."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def room(self, blocks: int) -> memoryview:
        """Returns this thread's buffer for `blocks` blocks, at most `BLOCKS_READ`. What it holds is undefined."""
        if not hasattr(self._of_thread, "whole"):
            whole = self._of_thread.whole = page_aligned(BLOCKS_READ * BLOCK)
            self._of_thread.blocks = [whole[start : start + BLOCK] for start in range(0, len(whole), BLOCK)]
        room: memoryview = self._of_thread.whole[: blocks * BLOCK]
        return room

    def digests(self, blocks: int) -> list[bytes]:
        """Returns the digests of the first `blocks` blocks in this thread's buffer, 32 bytes each."""
        return [blake3(block).digest() for block in self._of_thread.blocks[:blocks]]


def content_digest(size: int, runs: int, *parts: bytes | memoryview, of_file: bool = False) -> bytes:
    """Returns the content digest, 32 bytes, of a disk of `size` bytes, or with `of_file` of the bytes of an image's file.

    A file's digest never equals a disk's, so that a raw image with the bytes of a VMDK is not taken for one with its content.

    `parts`, joined, are laid out as in a seal: `runs` runs of blocks that are not zeros (first block and block after the last,
    8 bytes each, little-endian), then the digests of these blocks.
    """
    hasher = blake3(_HEAD.pack(_FILE_TAG if of_file else _TAG, size, BLOCK, runs))
    for part in parts:
        hasher.update(part)
    return hasher.digest()
