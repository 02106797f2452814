"""The sums of a blob: a BLAKE3 digest of each MiB of its bytes, so that damage is located without another copy.

The file of sums has, little-endian: 16 bytes that name the format, the blob's size (8), the blob's BLAKE3 digest (32), 32 bytes
for each piece, and the BLAKE3 digest of all that (32). So it shows its own damage, and can't be taken for another blob's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache

from blake3 import blake3

from cowherd.stores.faults import SumsDamaged

PIECE = 1 << 20
"""Bytes of a blob that one sum covers; the last piece may be shorter."""
SUM_BYTES = 32
"""Bytes of one sum."""

_MAGIC = b"cowherd sums 1\0\0"
_HEAD = struct.Struct("<16sQ32s")


@dataclass(frozen=True)
class Sums:
    """What the pieces of a blob of `size` bytes hold: `digests` are their sums, one after the other."""

    size: int
    digests: bytes

    def piece(self, number: int) -> bytes:
        """Returns the sum of a piece, counted from 0."""
        return self.digests[number * SUM_BYTES : (number + 1) * SUM_BYTES]

    def encode(self, digest: str) -> bytes:
        """Returns the file of sums of the blob `digest` (64 hexadecimal digits)."""
        body = _HEAD.pack(_MAGIC, self.size, bytes.fromhex(digest)) + self.digests
        return body + blake3(body).digest()


def decode(data: bytes, digest: str) -> Sums:
    """Reads a file of sums of the blob `digest`. Raises `SumsDamaged`, also for sums of another blob."""
    body, check = data[:-SUM_BYTES], data[-SUM_BYTES:]
    if len(body) < _HEAD.size:
        raise SumsDamaged(digest, f"the file has {len(data)} bytes")
    magic, size, owner = _HEAD.unpack_from(body)
    if magic != _MAGIC:
        raise SumsDamaged(digest, "the file holds no sums of a version that this cowherd knows")
    if blake3(body).digest() != check:
        raise SumsDamaged(digest, "the checksum of the file is wrong")
    if owner.hex() != digest:
        raise SumsDamaged(digest, f"the file is that of blob {owner.hex()}")
    if len(body) != _HEAD.size + pieces_in(size) * SUM_BYTES:
        raise SumsDamaged(digest, f"it has no sum for each MiB of {size} bytes")
    return Sums(size, body[_HEAD.size :])


def pieces_in(size: int) -> int:
    """Returns how many pieces a blob of `size` bytes has."""
    return -(-size // PIECE)


class Summing:
    """Makes the sums of bytes that arrive in blocks of any length."""

    def __init__(self) -> None:
        self._digests = bytearray()
        self._size = 0
        self._begun = blake3()

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Takes the next bytes."""
        rest = memoryview(data)
        while rest:
            missing = PIECE - self._size % PIECE
            part, rest = rest[:missing], rest[missing:]
            self._begun.update(part)
            self._size += len(part)
            if len(part) == missing:
                self._end_piece()

    def finish(self) -> Sums:
        """Returns the sums of all bytes; nothing may follow."""
        if self._size % PIECE:
            self._end_piece()
        return Sums(self._size, bytes(self._digests))

    def _end_piece(self) -> None:
        self._digests += self._begun.digest()
        self._begun = blake3()


@cache
def sum_of_zeros(length: int) -> bytes:
    """Returns the sum of `length` bytes of zeros, at most a piece, which need not be read to be known."""
    return blake3(bytes(length)).digest()
