from __future__ import annotations

import ctypes
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.storage.buffers import clear, is_zero, nonzero_units, page_aligned, runs_of


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


@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from([b"\0", b"x"])), max_size=12), st.sampled_from([8, 16, 64]))
def test_units_that_hold_anything_but_zeros_are_found(runs: list[tuple[int, bytes]], unit: int):
    data = b"".join(byte * length for length, byte in runs)
    expected = [any(data[begin : begin + unit]) for begin in range(0, len(data), unit)]
    assert list(nonzero_units(memoryview(data), unit)) == expected


def test_a_unit_of_many_pages_is_looked_at_to_its_end():
    data = bytearray(5 << 16)
    data[(3 << 16) + 65535] = 1
    assert list(nonzero_units(memoryview(data), 1 << 16)) == [0, 0, 0, 1, 0]


@given(st.lists(st.booleans()))
def test_runs_tell_where_marks_change(marks: list[bool]):
    found = list(runs_of(bytes(marks)))
    assert [value for first, end, value in found for _ in range(first, end)] == marks
    assert all(before[2] != after[2] for before, after in itertools.pairwise(found))
