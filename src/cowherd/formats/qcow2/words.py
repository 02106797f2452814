"""Tables of big-endian numbers as plain arrays, for code that makes or reads few of them and does without importing numpy."""

from __future__ import annotations

import sys
from array import array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

WORD_BYTES = 8
_CODES = {3: "B", 4: "H", 5: "I", 6: "Q"}


def unpacked(data: bytes) -> array[int]:
    """Returns the 64-bit words in `data`."""
    words = array("Q", data)
    if sys.byteorder == "little":
        words.byteswap()
    return words


def packed(words: array[int]) -> bytes:
    """Returns the bytes of an array's items as a file has them."""
    if sys.byteorder == "little" and words.itemsize > 1:
        words = words[:]
        words.byteswap()
    return words.tobytes()


def zeros(number: int) -> array[int]:
    """Returns `number` words of 0."""
    return array("Q", bytes(number * WORD_BYTES))


def all_bits(words: Iterable[int]) -> int:
    """Returns the bits that at least one word has."""
    bits = 0
    for word in words:
        bits |= word
    return bits


def used_counts(used: int, number: int, order: int) -> array[int]:
    """Returns `number` refcounts for `packed_counts`: the first `used` are 1, the others 0."""
    code = _CODES[max(order, 3)]
    return array(code, [1]) * used + array(code, [0]) * (number - used)


def zero_counts(number: int, order: int) -> array[int]:
    """Returns `number` refcounts of 0 for `packed_counts`."""
    return used_counts(0, number, order)


def packed_counts(counts: array[int], order: int) -> bytes:
    """Returns the bytes of refcounts of 2^`order` bits as a block has them; entries below a byte start at the lowest bit.

    `counts` must fit in the width and fill whole bytes. Specification: section Host cluster management.
    """
    if order >= 3:
        return packed(counts)
    per_byte, bits = 8 >> order, 1 << order
    fields, whole = counts.tobytes(), 0
    for position in range(per_byte):  # all bytes at once, as one long number: no field reaches into the next byte
        whole |= int.from_bytes(fields[position::per_byte], "little") << (position * bits)
    return whole.to_bytes(len(fields) // per_byte, "little")
