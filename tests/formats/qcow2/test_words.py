"""Plain arrays of big-endian numbers, against what numpy makes of the same."""

from __future__ import annotations

from array import array

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cowherd.formats.qcow2.refcounts import pack_counts
from cowherd.formats.qcow2.words import packed, packed_counts, unpacked, used_counts, zeros


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_words_stand_in_a_file_with_their_highest_byte_first(numbers: list[int]):
    data = np.array(numbers, ">u8").tobytes()
    assert packed(array("Q", numbers)) == data
    assert unpacked(data).tolist() == numbers


def test_packing_leaves_the_words_as_they_are():
    words = array("Q", [1, 2])
    packed(words)
    assert words.tolist() == [1, 2]


@given(st.integers(0, 6), st.integers(0, 40), st.data())
def test_refcounts_of_every_width_are_packed_as_arrays_pack_them(order: int, blocks: int, data: st.DataObject):
    number = blocks * 8
    counts = used_counts(data.draw(st.integers(0, number)), number, order)
    largest = (1 << (1 << order)) - 1
    for index in data.draw(st.lists(st.integers(0, number - 1)) if number else st.just([])):
        counts[index] = data.draw(st.integers(0, largest))
    width = max(1, 1 << order >> 3)
    assert packed_counts(counts, order) == pack_counts(np.array(counts.tolist(), f"u{width}"), order)


def test_used_counts_come_first():
    assert used_counts(2, 5, 4).tolist() == [1, 1, 0, 0, 0]
    assert zeros(3).tolist() == [0, 0, 0]
