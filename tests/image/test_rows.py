"""Rows: what shows of layers, two covers side by side, and portions."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from cowherd.image.rows import Clipping, laid_over, portions, side_by_side
from cowherd.kinds import BACKING, DATA, NOWHERE, ZERO
from tests.images import examples

ROWS = st.lists(
    st.tuples(st.integers(0, 99), st.integers(1, 40), st.integers(0, 5)).map(
        lambda row: (row[0], min(row[1], 100 - row[0]), row[0] + 1000 * row[2], row[2], (ZERO, DATA)[row[2] % 2])
    ),
    max_size=30,
)
LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=12)
RANGES = st.lists(st.integers(0, 60), max_size=12, unique=True).map(
    lambda borders: [(start, end) for start, end in zip(sorted(borders)[::2], sorted(borders)[1::2], strict=False)]
)


def cover(lengths: list[int], end: int, depth: int) -> list[tuple[int, int, int, int, int]]:
    """Rows of these lengths that cover [0, `end`), each zeros or data at a host offset of its own."""
    rows, start = [], 0
    for number, length in enumerate([*lengths, end]):
        if start < end:
            length = min(length, end - start)
            rows.append((start, length, *((NOWHERE, depth, ZERO) if number % 3 == 0 else (100 * number, depth, DATA))))
            start += length
    return rows


def byte_by_byte(rows: list[tuple[int, int, int, int, int]]) -> dict[int, tuple[int, int, int]]:
    return {
        start + at: (host if host == NOWHERE else host + at, depth, kind)
        for start, length, host, depth, kind in rows
        for at in range(length)
    }


@given(ROWS)
@settings(max_examples=examples(300))
def test_of_rows_of_several_layers_the_topmost_shows(rows: list[tuple[int, int, int, int, int]]):
    shown = [(6, NOWHERE, BACKING)] * 100
    for start, length, _, depth, kind in sorted(rows, key=lambda row: -row[3]):
        shown[start : start + length] = [(depth, 1000 * depth, kind)] * length
    found = laid_over(list(rows), 0, 100, 6)
    assert [start for start, *_ in found] == [0, *(start + length for start, length, *_ in found[:-1])]
    assert [
        (depth, NOWHERE if kind == BACKING else host - start, kind)
        for start, length, host, depth, kind in found
        for _ in range(length)
    ] == shown


def test_what_shows_without_a_break_is_one_row():
    upper, lower = (40, 10, NOWHERE, 0, ZERO), [(start, 5, start, 1, DATA) for start in range(0, 100, 20)]
    assert laid_over([(0, 100, 0, 0, DATA), *lower], 0, 100, 2) == [(0, 100, 0, 0, DATA)]
    assert laid_over([(0, 100, 7, 1, DATA), upper], 0, 100, 2) == [(0, 40, 7, 1, DATA), upper, (50, 50, 57, 1, DATA)]


@given(LENGTHS, LENGTHS)
def test_two_covers_side_by_side_are_cut_alike_and_lose_nothing(one: list[int], other: list[int]):
    a, b = cover(one, 60, 0), cover(other, 60, 1)
    pairs = list(side_by_side(a, b))
    assert [left[:2] for left, _ in pairs] == [right[:2] for _, right in pairs]
    assert byte_by_byte([left for left, _ in pairs]) == byte_by_byte(a)
    assert byte_by_byte([right for _, right in pairs]) == byte_by_byte(b)


@given(LENGTHS, RANGES, st.integers(1, 20))
def test_portions_have_their_rows_and_no_more_bytes_than_allowed(lengths: list[int], ranges: list[tuple[int, int]], most: int):
    rows = cover(lengths, 60, 0)
    clipping, told = Clipping(rows), byte_by_byte(rows)
    parts = list(portions(ranges, most))
    found = [clipping.inside(part) for part in parts]
    sizes = [sum(end - start for start, end in part) for part in parts]
    assert sizes[:-1] == [most] * (len(parts) - 1)
    assert all(size <= most for size in sizes)
    assert [at for part in parts for start, end in part for at in range(start, end)] == [
        at for start, end in ranges for at in range(start, end)
    ]
    for part, held in zip(parts, found, strict=True):
        assert byte_by_byte(held) == {at: told[at] for start, end in part for at in range(start, end)}
