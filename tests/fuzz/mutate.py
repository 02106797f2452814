"""Changes to a sound file that leave it worth parsing: edges and near misses put into its fields, checksums made right again."""

from __future__ import annotations

import struct
import zlib
from typing import Literal, Protocol

from blake3 import blake3

from tests.fuzz.disks import put_right
from tests.fuzz.seed import Seed

EDGES = (0, 1, 2, 7, 8, 9, 63, 64, 255, 511, 512, 4096, *(1 << bits for bits in (16, 21, 31, 32, 40, 55, 56, 62, 63)))
_MOST_CHANGES = 6
_SEAL_PREFIX = struct.Struct("<8sIIIxxxxQQ")
_JOURNAL_PREFIX = struct.Struct("<8sIII4x")


class Choices(Protocol):
    """Where decisions come from: a random generator, or the bytes of a fuzzer's input."""

    def number(self, most: int) -> int:
        """Returns an integer from 0 to `most`."""
        ...


def mutated(seed: Seed, choices: Choices) -> bytes:
    """Returns the content of `seed` with some changes."""
    content = bytearray(seed.content)
    for _ in range(1 + choices.number(_MOST_CHANGES - 1)):
        _change(content, seed, choices)
    if choices.number(7 if seed.sums or seed.mend else 3):
        _put_right(seed.kind, content)
        put_right(seed, content)
    return bytes(content)


def _change(content: bytearray, seed: Seed, choices: Choices) -> None:
    kind = choices.number(9)
    if kind == 0:
        del content[seed.fixed + choices.number(len(content) - seed.fixed) :]
    elif kind == 1:  # any bytes
        start = seed.fixed + choices.number(max(0, len(content) - seed.fixed - 1))
        for position in range(start, min(len(content), start + 4)):
            content[position] = choices.number(255)
    elif kind == 2:  # a piece of the file put somewhere else
        size = (8, 64, 512, 4096)[choices.number(3)]
        source, target = (seed.fixed + _aligned(choices, len(content) - seed.fixed, size) for _ in range(2))
        _put(content, target, bytes(content[source : source + size]))
    else:
        offset, width = seed.places[choices.number(len(seed.places) - 1)]
        offset += width * choices.number(15) if width == 8 and kind > 6 else 0
        order: Literal["big", "little"] = "big" if seed.order == "big" else "little"
        old = int.from_bytes(content[offset : offset + width], order)
        _put(content, offset, (_value(old, len(content), choices) % (1 << 8 * width)).to_bytes(width, order))


def _value(old: int, length: int, choices: Choices) -> int:
    kind = choices.number(5)
    if kind == 0:
        return EDGES[choices.number(len(EDGES) - 1)]
    if kind == 1:
        return -EDGES[choices.number(len(EDGES) - 1)]
    if kind == 2:
        return old ^ (1 << choices.number(63))
    if kind == 3:
        return old + (1, -1, 8, -8, 512, -512, 4096, 65536)[choices.number(7)]
    if kind == 4:  # another place in the file, flags kept
        return (old & (3 << 62)) | _aligned(choices, length + 65536, 512)
    return choices.number(1 << 16) << 8 * choices.number(6)


def _aligned(choices: Choices, length: int, unit: int) -> int:
    return choices.number(length // unit) * unit


def _put(content: bytearray, offset: int, data: bytes) -> None:
    content[offset : offset + len(data)] = data[: max(0, len(content) - offset)]


def _put_right(kind: str, content: bytearray) -> None:
    """Makes checksums true, so that what they guard is looked at."""
    if kind == "seal" and len(content) > _SEAL_PREFIX.size + 32:
        length = int.from_bytes(content[12:16], "little")
        content[16:20] = zlib.crc32(bytes(content[40 : 40 + length])).to_bytes(4, "little")
        content[-32:] = blake3(bytes(content[:-32])).digest()
    elif kind == "journal" and len(content) > _JOURNAL_PREFIX.size:
        length = int.from_bytes(content[12:16], "little")
        content[16:20] = zlib.crc32(bytes(content[_JOURNAL_PREFIX.size : _JOURNAL_PREFIX.size + length])).to_bytes(4, "little")
