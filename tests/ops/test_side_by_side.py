"""What two disks side by side have in common, told apart by units."""

from __future__ import annotations

import itertools
import random

import pytest

from cowherd.ops.side_by_side import differing_units

KIB = 1 << 10


@pytest.mark.parametrize("unit", [512, 4 * KIB, 64 * KIB, 256 * KIB])
@pytest.mark.parametrize("seed", range(4))
def test_the_units_that_differ_are_told_as_runs(unit: int, seed: int):
    choose = random.Random(seed)
    length = 700 * KIB + 512 * choose.randrange(4)
    one = bytearray(choose.randbytes(length))
    other = bytearray(one)
    for _ in range(choose.randrange(30)):
        other[choose.randrange(length)] ^= 1
    differing = {index // unit for index in range(length) if one[index] != other[index]}
    found = differing_units(one, memoryview(other), unit)
    assert {number for first, end in found for number in range(first // unit, -(-end // unit))} == differing
    assert all(first % unit == 0 and (end % unit == 0 or end == length) for first, end in found)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(found))


def test_only_the_part_of_a_buffer_that_is_in_use_counts():
    one, other = bytearray(b"a" * 1024), bytearray(b"a" * 512 + b"b" * 512)
    assert differing_units(one, memoryview(other)[:512], 512) == []
    assert differing_units(one, memoryview(other), 512) == [(512, 1024)]
