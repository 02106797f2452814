"""What stands for a disk's content: a BLAKE3 digest for each block of 64 KiB, and one over its size and all of these."""

from __future__ import annotations

import struct

from blake3 import blake3

BLOCK = 65536
"""Bytes of guest address space that one digest stands for."""
DIGEST_BYTES = 32
ZERO_DIGEST = blake3(bytes(BLOCK)).digest()

_HEAD = struct.Struct("<20sQIQ")
_TAG = b"cowherd content 1"


def content_digest(size: int, runs: int, *parts: bytes | memoryview) -> bytes:
    """Returns the content digest, 32 bytes, of a disk of `size` bytes.

    `parts` are, one behind the other as in a seal, the number `runs` of runs of blocks that are not zeros (first block and block
    after the last, 8 bytes each, little-endian) and the digests of these blocks.
    """
    hasher = blake3(_HEAD.pack(_TAG, size, BLOCK, runs))
    for part in parts:
        hasher.update(part)
    return hasher.digest()
