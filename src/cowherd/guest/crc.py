"""CRC-32C (Castagnoli, RFC 3720 appendix B.4) as file systems use it: of one buffer, or of many buffers of one length at once.

The loops in Python are over columns, never over rows: numpy works on all rows of a column in one instruction.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78  # 0x1EDC6F41 with its bits reversed, as the checksum is computed from the lowest bit on
START = 0xFFFFFFFF

_SHORT = 512
_PART = 64  # bytes of a long row that are summed independently of the others, if there are many rows
_FEW = 8  # rows; a column of fewer costs numpy more to begin with than to work on
_SEGMENT = 4096


@cache
def _table() -> NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


@cache
def _list() -> list[int]:
    return [int(entry) for entry in _table()]


def crc32c(data: bytes, crc: int = START) -> int:
    """Returns the checksum of `data`, continued from the checksum `crc` of the bytes before it, without the final inversion."""
    if len(data) >= _SHORT:
        return int(crc32c_rows(np.frombuffer(data, np.uint8).reshape(1, -1), np.array([crc], np.uint32))[0])
    table = _list()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc


def crc32c_rows(rows: NDArray[np.uint8], crcs: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Returns the checksum of each row of a two-dimensional array, each continued from its element of `crcs`."""
    count, length = rows.shape
    if length >= _SHORT and count < _FEW:
        return _of_few(rows, crcs)
    head = length % _PART if length >= _SHORT else length
    table, crcs = _table(), crcs.astype(np.uint32)
    for column in np.ascontiguousarray(rows[:, :head].T):
        crcs = table[(crcs ^ column) & np.uint32(0xFF)] ^ (crcs >> np.uint32(8))
    return _after(crcs, rows[:, head:], _PART) if head < length else crcs


@cache
def _places() -> NDArray[np.uint32]:
    """Returns what each value of each byte of a segment contributes to its checksum, as one flat array."""
    # Each row comes from the one behind it, because one more byte that follows shifts a contribution by one step.
    rows = np.empty((_SEGMENT, 256), np.uint32)
    row = rows[-1] = table = _table()
    for place in range(_SEGMENT - 2, -1, -1):
        row = rows[place] = table[row & np.uint32(0xFF)] ^ (row >> np.uint32(8))
    return rows.reshape(-1)


def _of_few(rows: NDArray[np.uint8], crcs: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Adds up the contributions of all bytes. A checksum is linear, and the checksum of the bytes before acts as if it were xored
    into the first four bytes.

    Zeros in front change nothing while the checksum is 0, so that every row can be padded to whole segments.
    """
    count, length = rows.shape
    padded = np.zeros((count, -(-length // _SEGMENT) * _SEGMENT), np.uint8)
    padded[:, -length:] = rows
    first = padded.shape[1] - length
    padded[:, first : first + 4] ^= crcs.astype("<u4").view(np.uint8).reshape(-1, 4)
    crcs = np.zeros(count, "<u4")
    for at in range(0, padded.shape[1], _SEGMENT):
        segment = padded[:, at : at + _SEGMENT]
        segment[:, :4] ^= crcs.view(np.uint8).reshape(-1, 4)
        places = segment + np.arange(0, _SEGMENT * 256, 256, dtype=np.int32)
        crcs = np.bitwise_xor.reduce(_places()[places], axis=1).astype("<u4")
    return crcs.astype(np.uint32)


def _after(crcs: NDArray[np.uint32], rows: NDArray[np.uint8], part: int) -> NDArray[np.uint32]:
    """Continues with rows of whole parts: sums every part on its own, two bytes a step, then joins the sums of each row."""
    count, length = rows.shape
    sums = np.zeros(count * (length // part), np.uint32)
    words = np.ascontiguousarray(rows).reshape(len(sums), part).view("<u2")
    table = _wide_table()
    for column in np.ascontiguousarray(words.T):
        sums = table[(sums ^ column) & np.uint32(0xFFFF)] ^ (sums >> np.uint32(16))
    # The sum so far is carried over the zeros of one part, a byte at a time (four tables), and the part's own sum is xored in.
    shift = _shift_tables(part)
    for column in sums.reshape(count, -1).T:
        crcs = column ^ shift[0][crcs & 0xFF] ^ shift[1][crcs >> 8 & 0xFF] ^ shift[2][crcs >> 16 & 0xFF] ^ shift[3][crcs >> 24]
    return crcs


@cache
def _wide_table() -> NDArray[np.uint32]:
    """Returns the checksum that each value of two bytes gives, so that one look-up takes two bytes."""
    table, crcs = _table(), np.arange(65536, dtype=np.uint32)
    for _ in range(2):
        crcs = table[crcs & np.uint32(0xFF)] ^ (crcs >> np.uint32(8))
    return crcs


@cache
def _shift_tables(length: int) -> NDArray[np.uint32]:
    """Returns what each value of each of a checksum's four bytes becomes after `length` zero bytes."""
    table = _table()
    crcs = np.arange(256, dtype=np.uint32) << (8 * np.arange(4, dtype=np.uint32))[:, None]
    for _ in range(length):
        crcs = table[crcs & np.uint32(0xFF)] ^ (crcs >> np.uint32(8))
    return crcs.astype(np.uint32)
