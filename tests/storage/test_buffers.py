from __future__ import annotations

import ctypes

import pytest

from cowherd.storage.buffers import clear, is_zero, page_aligned


@pytest.mark.parametrize("size", [1, 4096, 65536 * 8 + 3])
def test_a_buffer_begins_with_a_page_and_is_zeros(size):
    buffer = page_aligned(size)
    assert ctypes.addressof(ctypes.c_char.from_buffer(buffer)) % 4096 == 0
    assert bytes(buffer) == bytes(size)


def test_a_buffer_can_be_written_to_and_is_nobody_elses():
    one, other = page_aligned(4096), page_aligned(4096)
    one[:2] = b"ab"
    assert (bytes(one[:2]), bytes(other[:2])) == (b"ab", bytes(2))


@pytest.mark.parametrize("size", [0, 1, 4096, (2 << 20) + 5])
def test_a_cleared_buffer_is_zeros(size):
    buffer = memoryview(bytearray(b"z" * size))
    clear(buffer)
    assert bytes(buffer) == bytes(size)
    assert is_zero(buffer)


@pytest.mark.parametrize("place", [0, 4095, 4096, 9000])
def test_a_single_byte_is_seen(place):
    data = bytearray(9001)
    data[place] = 1
    assert not is_zero(memoryview(data))
