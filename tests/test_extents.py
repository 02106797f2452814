"""The algebra on extents and ranges, against doing the same byte by byte."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cowherd import extents as ext

Byte = tuple[int, int, int]
"""What one byte is: its host byte, depth and kind."""

LIMIT = 60
pairs = st.lists(st.tuples(st.integers(0, LIMIT), st.integers(0, LIMIT)), max_size=12)


@st.composite
def sorted_extents(draw: st.DrawFn) -> ext.Extents:
    """Extents with and without gaps, many of which continue each other."""
    rows, position = [], 0
    for _ in range(draw(st.integers(0, 12))):
        position += draw(st.sampled_from([0, 0, 0, 1, 3]))
        length = draw(st.integers(1, 6))
        host = draw(st.sampled_from([ext.NOWHERE, position + 100, position + 100, 500]))
        rows.append((position, length, host, draw(st.integers(0, 1)), draw(st.sampled_from([ext.ZERO, ext.DATA]))))
        position += length
    return np.array(rows, ext.EXTENT)


def bytes_of(extents: ext.Extents) -> dict[int, Byte]:
    """Each guest byte of `extents`; a byte in two of them fails."""
    found: dict[int, Byte] = {}
    for start, length, host, depth, kind in extents.tolist():
        assert length > 0
        for index in range(length):
            assert start + index not in found
            found[start + index] = (host + index if host != ext.NOWHERE else host, depth, kind)
    return found


def members(ranges: ext.Ranges) -> set[int]:
    """The bytes of a range array, which must be sorted, without overlaps, and joined where ranges touch."""
    assert (ranges[:, 1] > ranges[:, 0]).all()
    assert (ranges[1:, 0] > ranges[:-1, 1]).all()
    return {byte for start, end in ranges.tolist() for byte in range(start, end)}


def in_any(some: list[tuple[int, int]]) -> set[int]:
    return {byte for start, end in some for byte in range(start, end)}


@given(sorted_extents())
def test_merge_keeps_every_byte_and_leaves_no_neighbours_that_continue_each_other(extents: ext.Extents):
    merged = ext.merge(extents)
    assert bytes_of(merged) == bytes_of(extents)
    assert (ext.merge(merged) == merged).all()
    rows = merged.tolist()
    for (start, length, host, depth, kind), (after, _, next_host, next_depth, next_kind) in pairwise(rows):
        same_place = host == next_host == ext.NOWHERE or (ext.NOWHERE not in (host, next_host) and host + length == next_host)
        assert not (start + length == after and same_place and (depth, kind) == (next_depth, next_kind))


@given(sorted_extents())
def test_merging_does_not_change_what_it_was_given(extents: ext.Extents):
    before = extents.copy()
    ext.merge(extents)
    ext.clip(extents, 3, 20)
    ext.restrict(extents, np.array([[2, 9]], np.int64))
    assert (extents == before).all()


@given(sorted_extents(), st.integers(0, 13))
def test_concat_joins_what_was_cut(extents: ext.Extents, cut: int):
    assert bytes_of(ext.concat([extents[:cut], extents[cut:]])) == bytes_of(extents)


def test_concat_of_nothing_is_empty():
    assert len(ext.concat([])) == 0


@given(sorted_extents(), st.integers(0, LIMIT), st.integers(0, LIMIT))
def test_clip_keeps_the_bytes_inside(extents: ext.Extents, start: int, length: int):
    end = start + length
    assert bytes_of(ext.clip(extents, start, end)) == {at: what for at, what in bytes_of(extents).items() if start <= at < end}


@given(sorted_extents(), pairs)
def test_restrict_keeps_the_bytes_inside_ranges(extents: ext.Extents, some: list[tuple[int, int]]):
    inside = in_any(some)
    found = ext.restrict(extents, ext.ranges(some))
    assert bytes_of(found) == {at: what for at, what in bytes_of(extents).items() if at in inside}
    assert (np.diff(found["start"]) > 0).all()


@given(sorted_extents())
def test_ranges_of_extents_are_their_bytes(extents: ext.Extents):
    assert members(ext.ranges_of(extents)) == set(bytes_of(extents))


@given(sorted_extents())
def test_of_kind_selects(extents: ext.Extents):
    kept = ext.of_kind(extents, ext.DATA, ext.COMPRESSED)
    assert bytes_of(kept) == {at: what for at, what in bytes_of(extents).items() if what[2] == ext.DATA}


@given(pairs)
def test_ranges_normalises_pairs(some: list[tuple[int, int]]):
    assert members(ext.ranges(some)) == in_any(some)


@given(pairs, pairs)
def test_set_operations_are_those_on_bytes(left: list[tuple[int, int]], right: list[tuple[int, int]]):
    a, b = ext.ranges(left), ext.ranges(right)
    assert members(ext.intersect(a, b)) == in_any(left) & in_any(right)
    assert members(ext.subtract(a, b)) == in_any(left) - in_any(right)
    assert members(ext.union(a, b)) == in_any(left) | in_any(right)
    assert ext.total(a) == len(in_any(left))


@given(pairs, st.sampled_from([1, 4, 7]), st.integers(LIMIT, LIMIT + 10))
def test_aligned_widens_to_blocks(some: list[tuple[int, int]], block: int, limit: int):
    blocks = {byte // block for byte in in_any(some)}
    assert members(ext.aligned(ext.ranges(some), block, limit)) == {byte for byte in range(limit) if byte // block in blocks}


@given(sorted_extents(), st.integers(1, 5))
def test_pieces_are_no_longer_than_asked(extents: ext.Extents, limit: int):
    found = list(ext.pieces(extents, limit))
    assert all(0 < length <= limit for _, length, _, _, _ in found)
    assert bytes_of(np.array(found, ext.EXTENT)) == bytes_of(extents)


def test_a_single_extent_without_bytes_is_none():
    assert len(ext.single(5, 0, ext.DATA)) == 0
    assert ext.single(5, 7, ext.DATA, 9, 2).tolist() == [(5, 7, 9, 2, ext.DATA)]


def test_offsets_beyond_32_bits_survive():
    far = ext.single(1 << 60, 1 << 50, ext.DATA, 1 << 55)
    assert ext.clip(far, (1 << 60) + 5, 1 << 62).tolist() == [((1 << 60) + 5, (1 << 50) - 5, (1 << 55) + 5, 0, ext.DATA)]


@given(pairs, st.integers(1, 20))
def test_ranges_are_cut_after_as_many_bytes_as_were_asked_for(given_pairs: list[tuple[int, int]], size: int):
    ranges = ext.ranges(given_pairs)
    pieces, begins = ext.cut(ranges, size)
    assert [byte for start, end in pieces.tolist() for byte in range(start, end)] == [
        byte for start, end in ranges.tolist() for byte in range(start, end)
    ]
    groups = [ext.total(pieces[first:last]) for first, last in pairwise([*begins.tolist(), len(pieces)])]
    assert all(length == size for length in groups[:-1])
    assert not groups or 0 < groups[-1] <= size


@st.composite
def a_layer(draw: st.DrawFn) -> ext.Extents:
    """What one layer of a disk of `LIMIT` bytes holds."""
    extents = ext.clip(draw(sorted_extents()), 0, LIMIT)
    return extents[[draw(st.booleans()) for _ in extents]]


@given(st.lists(a_layer(), max_size=5))
def test_of_layers_the_topmost_shows(layers: list[ext.Extents]):
    for depth, layer in enumerate(layers):
        layer["depth"] = depth
    expected = dict.fromkeys(range(LIMIT), (ext.NOWHERE, 7, ext.BACKING))
    for layer in reversed(layers):
        expected |= bytes_of(layer)
    found = ext.laid_over(layers, 0, LIMIT, 7)
    assert bytes_of(found) == expected
    assert found["start"].tolist() == [0, *ext.ends(found).tolist()][:-1]
    assert ext.merge(found).tolist() == found.tolist() or len(layers) == 1


@given(st.lists(st.integers(0, 20)))
def test_distinct_values_are_sorted_each_once(values: list[int]):
    assert ext.distinct(np.array(values, np.int64)).tolist() == sorted(set(values))
