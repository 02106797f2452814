"""Sums: a digest of each MiB, in a file that shows its own damage."""

from __future__ import annotations

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from cowherd.stores.faults import SumsDamaged
from cowherd.stores.sums import PIECE, SUM_BYTES, Summing, Sums, decode, pieces_in, sum_of_zeros

DIGEST = blake3(b"a blob").hexdigest()


def sums_of(*parts: bytes) -> Sums:
    summing = Summing()
    for part in parts:
        summing.update(part)
    return summing.finish()


def test_each_mib_has_its_digest_and_the_last_piece_may_be_shorter():
    first, second, last = b"a" * PIECE, b"b" * PIECE, b"c" * 5
    sums = sums_of(first + second + last)
    assert sums.size == 2 * PIECE + 5
    assert [sums.piece(number) for number in range(3)] == [blake3(part).digest() for part in (first, second, last)]
    assert len(sums.digests) == pieces_in(sums.size) * SUM_BYTES


@given(st.lists(st.integers(1, PIECE + 100), max_size=5))
def test_how_the_bytes_are_split_does_not_matter(lengths: list[int]):
    data = bytes(range(256)) * (sum(lengths) // 256 + 1)
    parts, position = [], 0
    for length in lengths:
        parts.append(data[position : position + length])
        position += length
    assert sums_of(*parts) == sums_of(data[:position])


def test_nothing_has_no_sums():
    assert sums_of() == Sums(0, b"")
    assert decode(sums_of().encode(DIGEST), DIGEST) == Sums(0, b"")


@pytest.mark.parametrize("length", [1, 4096, PIECE])
def test_the_sum_of_zeros_is_known_without_reading_them(length: int):
    assert sum_of_zeros(length) == sums_of(bytes(length)).piece(0)


def test_the_file_of_sums_is_read_back():
    sums = sums_of(b"x" * (PIECE + 1))
    assert decode(sums.encode(DIGEST), DIGEST) == sums


@given(st.data())
def test_a_file_of_sums_with_any_byte_changed_or_cut_off_is_refused(data: st.DataObject):
    whole = sums_of(b"x" * (PIECE + 1)).encode(DIGEST)
    place = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytearray(whole)
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    for damaged in (bytes(flipped), whole[:place], whole + b"\0"):
        with pytest.raises(SumsDamaged):
            decode(damaged, DIGEST)


def test_the_sums_of_another_blob_are_refused():
    other = blake3(b"another blob").hexdigest()
    with pytest.raises(SumsDamaged, match=other):
        decode(sums_of(b"x").encode(other), DIGEST)


def test_sums_that_are_too_few_for_their_size_are_refused():
    with pytest.raises(SumsDamaged, match="no sum for each MiB"):
        decode(Sums(3 * PIECE, bytes(2 * SUM_BYTES)).encode(DIGEST), DIGEST)
