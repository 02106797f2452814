"""CRC-32C as file systems use it: of one buffer, or of many buffers of one length at once."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78
START = 0xFFFFFFFF


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
    table = _list()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc


def crc32c_rows(rows: NDArray[np.uint8], crcs: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Returns the checksum of each row of a two-dimensional array, after what gave `crcs`."""
    table, crcs = _table(), crcs.astype(np.uint32)
    for column in np.ascontiguousarray(rows.T):
        crcs = table[(crcs ^ column) & np.uint32(0xFF)] ^ (crcs >> np.uint32(8))
    return crcs
