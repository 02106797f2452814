"""CRC-32C as file systems use it: of one buffer, or of many buffers of one length at once."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78
START = 0xFFFFFFFF

_SHORT = 512
_PARTS = (256, 64)  # bytes of a long row that are worked on at once: fewer steps for few rows, less memory traffic for many
_FEW = 8


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
    """Returns the checksum of `data` after what gave `crc`, without the final inversion."""
    if len(data) >= _SHORT:
        return int(crc32c_rows(np.frombuffer(data, np.uint8).reshape(1, -1), np.array([crc], np.uint32))[0])
    table = _list()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc


def crc32c_rows(rows: NDArray[np.uint8], crcs: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Returns the checksum of each row of a two-dimensional array, after what gave `crcs`."""
    count, length = rows.shape
    part = _PARTS[count >= _FEW]
    head = length % part if length >= _SHORT else length
    table, crcs = _table(), crcs.astype(np.uint32)
    for column in np.ascontiguousarray(rows[:, :head].T):
        crcs = table[(crcs ^ column) & np.uint32(0xFF)] ^ (crcs >> np.uint32(8))
    return _after(crcs, rows[:, head:], part) if head < length else crcs


def _after(crcs: NDArray[np.uint32], rows: NDArray[np.uint8], part: int) -> NDArray[np.uint32]:
    """Goes on with rows of whole parts: all parts by themselves, two bytes a step; then each is moved behind those before it."""
    count, length = rows.shape
    sums = np.zeros(count * (length // part), np.uint32)
    words = np.ascontiguousarray(rows).reshape(len(sums), part).view("<u2")
    table = _wide_table()
    for column in np.ascontiguousarray(words.T):
        sums = table[(sums ^ column) & np.uint32(0xFFFF)] ^ (sums >> np.uint32(16))
    shift = _shift_tables(part)
    for column in sums.reshape(count, -1).T:
        crcs = column ^ shift[0][crcs & 0xFF] ^ shift[1][crcs >> 8 & 0xFF] ^ shift[2][crcs >> 16 & 0xFF] ^ shift[3][crcs >> 24]
    return crcs


@cache
def _wide_table() -> NDArray[np.uint32]:
    """Returns what two bytes do to a checksum."""
    table, crcs = _table(), np.arange(65536, dtype=np.uint32)
    for _ in range(2):
        crcs = table[crcs & np.uint32(0xFF)] ^ (crcs >> np.uint32(8))
    return crcs


@cache
def _shift_tables(length: int) -> NDArray[np.uint32]:
    """Returns what `length` zero bytes do to each byte of a checksum."""
    table = _table()
    crcs = np.arange(256, dtype=np.uint32) << (8 * np.arange(4, dtype=np.uint32))[:, None]
    for _ in range(length):
        crcs = table[crcs & np.uint32(0xFF)] ^ (crcs >> np.uint32(8))
    return crcs.astype(np.uint32)
