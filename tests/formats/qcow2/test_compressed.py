"""Compressed clusters: their descriptors, and reading what lies close together at once."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.compressed import close_together
from cowherd.formats.qcow2.descriptor import CompressedPlace, compressed_place, compressed_word


@given(st.integers(9, 21), st.data())
def test_compressed_descriptors_come_back(cluster_bits: int, data: st.DataObject):
    size = 1 << cluster_bits
    offset = data.draw(st.integers(0, (1 << min(55, 70 - cluster_bits)) - 1))
    length = data.draw(st.integers(1, size - 1 if size > 512 else 511))
    word = compressed_word(offset, length, cluster_bits)
    place = compressed_place(word, cluster_bits)
    assert word < 1 << 63
    assert word & layout.COMPRESSED_FLAG
    assert place.offset == offset
    # The descriptor counts sectors: the place ends with the sector of the last byte.
    assert offset + length <= place.offset + place.length < offset + length + 512
    assert (place.offset + place.length) % 512 == 0


@given(st.integers(9, 21), st.integers(0, (1 << 62) - 1))
def test_every_compressed_descriptor_has_a_place_of_at_most_two_clusters(cluster_bits: int, rest: int):
    place = compressed_place(layout.COMPRESSED_FLAG | rest, cluster_bits)
    assert 1 <= place.length <= 2 << cluster_bits
    assert 0 <= place.offset < 1 << 61
    assert compressed_word(place.offset, place.length, cluster_bits) == layout.COMPRESSED_FLAG | rest


def test_a_descriptor_as_the_specification_counts_it():
    # 64 KiB clusters: 54 bits of offset, 8 of further sectors.
    assert compressed_place(layout.COMPRESSED_FLAG | 3 << 54 | 0x12345, 16) == CompressedPlace(0x12345, 4 * 512 - 0x145)


@given(st.lists(st.tuples(st.integers(0, 40 << 20), st.integers(1, 1 << 16)), min_size=1, max_size=40))
def test_pieces_of_the_file_hold_every_compressed_cluster_once_and_little_else(places: list[tuple[int, int]]):
    pieces = list(close_together([CompressedPlace(*place) for place in places]))
    assert sorted(index for *_, held in pieces for index, _ in held) == list(range(len(places)))
    for begin, end, held in pieces:
        assert all(place == places[index] for index, place in held)
        assert begin == min(offset for _, (offset, _) in held)
        assert end == max(offset + length for _, (offset, length) in held)
        assert end - begin <= (4 << 20) or len(held) == 1
        assert end - begin <= sum(length for _, (_, length) in held) + len(held) * (64 << 10)
    assert all(before[0] < after[0] for before, after in itertools.pairwise(pieces))
