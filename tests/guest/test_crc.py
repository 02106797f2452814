"""CRC-32C of what is short and long, at once and in parts."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cowherd.guest.crc import START, crc32c, crc32c_rows


def bit_by_bit(data: bytes, crc: int = START) -> int:
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc


def test_the_check_value_of_the_catalogue_of_checksums():
    assert crc32c(b"123456789") ^ START == 0xE3069283


@settings(max_examples=100)
@given(st.integers(0, 9000) | st.integers(4096, 4102), st.integers(0, START), st.integers(0, 99))
def test_data_of_any_length_has_the_checksum_that_its_bits_give(length, crc, seed):
    data = np.random.default_rng(seed).bytes(length)
    assert crc32c(data, crc) == bit_by_bit(data, crc)


@settings(max_examples=20)
@given(st.sampled_from([4, 511, 512, 4095, 4096, 4100, 12288]), st.integers(1, 4))
def test_rows_have_the_checksums_that_each_has_alone(length, count):
    rows = np.random.default_rng(length).integers(0, 256, (count, length), np.uint8)
    crcs = np.arange(count, dtype=np.uint32) * np.uint32(1234567)
    assert crc32c_rows(rows, crcs).tolist() == [crc32c(row.tobytes(), int(crc)) for row, crc in zip(rows, crcs, strict=True)]
