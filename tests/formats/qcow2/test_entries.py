"""L2 entries decoded at once, against decoding them one by one as the specification says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd import extents as ext
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.entries import EntryError, data_word, decode
from cowherd.formats.qcow2.header import Header

BITS = 16
SIZE = 1 << BITS
HEADER = Header(3, BITS, 1 << 40, 0, 0, 0, 0)
EXTENDED = Header(3, BITS, 1 << 40, 0, 0, 0, 0, incompatible=layout.INCOMPATIBLE_EXTENDED_L2)
SUBCLUSTER = SIZE // 32

Run = tuple[int, int, int, int]


def decoded(entries: list[tuple[int, ...]], header: Header, guest: int = 0) -> list[Run]:
    found = decode(np.array(entries, np.uint64).reshape(len(entries), -1), guest, header)
    assert not found["depth"].any()
    return [(start, length, host, kind) for start, length, host, _, kind in found.tolist()]


def one_by_one(entries: list[tuple[int, ...]], header: Header, guest: int = 0) -> list[Run]:
    """The extents of each cluster or subcluster, joined where they continue each other."""
    runs: list[Run] = []
    for number, entry in enumerate(entries):
        for start, length, host, kind in _pieces(entry, header):
            start += guest + number * SIZE
            if runs and _continue(runs[-1], host, kind):
                runs[-1] = (runs[-1][0], runs[-1][1] + length, runs[-1][2], kind)
            else:
                runs.append((start, length, host, kind))
    return runs


def _pieces(entry: tuple[int, ...], header: Header) -> list[Run]:
    word = entry[0]
    host = word & layout.L2_OFFSET_MASK or -1
    if word & layout.COMPRESSED_FLAG:
        return [(0, SIZE, -1, ext.COMPRESSED)]
    if not header.extended_l2:
        return [(0, SIZE, host, ext.ZERO if word & 1 else ext.DATA if host > 0 else ext.BACKING)]
    found: list[Run] = []
    for number in range(32):
        allocated, zero = entry[1] >> number & 1, entry[1] >> (32 + number) & 1
        kind = ext.DATA if allocated else ext.ZERO if zero else ext.BACKING
        found.append((number * SUBCLUSTER, SUBCLUSTER, host + number * SUBCLUSTER if host > 0 else -1, kind))
    return found


def _continue(run: Run, host: int, kind: int) -> bool:
    return run[3] == kind and (host == run[2] == -1 or (run[2] != -1 and host == run[2] + run[1]))


clusters = st.integers(1, 6).map(lambda number: number * SIZE)
standard = st.one_of(
    st.just(0),
    st.just(1),
    clusters,
    clusters.map(lambda host: host | layout.COPIED),
    clusters.map(lambda host: host | 1),
    st.integers(0, (1 << 62) - 1).map(lambda rest: rest | layout.COMPRESSED_FLAG),
)


@given(st.lists(standard.map(lambda word: (word,)), min_size=1, max_size=40), st.integers(0, 1000))
def test_standard_entries_decode_as_one_by_one(entries: list[tuple[int, ...]], first: int):
    assert decoded(entries, HEADER, first * SIZE) == one_by_one(entries, HEADER, first * SIZE)


@given(st.integers(1, 200), st.dictionaries(st.integers(0, 199), standard, max_size=10), st.integers(0, 1000))
def test_sparse_tables_decode_as_one_by_one(number: int, used: dict[int, int], first: int):
    entries = [(used.get(index, 0),) for index in range(number)]
    assert decoded(entries, HEADER, first * SIZE) == one_by_one(entries, HEADER, first * SIZE)


def test_what_is_wrong_in_a_sparse_table_is_said_with_its_place():
    with pytest.raises(EntryError) as caught:
        decoded([(0,)] * 50 + [(SIZE + 512,)] + [(0,)] * 50, HEADER, 7 * SIZE)
    assert caught.value.guest == 57 * SIZE


@st.composite
def extended(draw: st.DrawFn) -> tuple[int, int]:
    word = draw(
        st.one_of(st.just(0), clusters, clusters.map(lambda host: host | layout.COPIED), st.just(layout.COMPRESSED_FLAG | 77))
    )
    zero = draw(st.one_of(st.sampled_from([0, layout.ALL_SUBCLUSTERS]), st.integers(0, layout.ALL_SUBCLUSTERS)))
    allocated = draw(st.one_of(st.sampled_from([0, layout.ALL_SUBCLUSTERS]), st.integers(0, layout.ALL_SUBCLUSTERS))) & ~zero
    return word, zero << 32 | (allocated if word & layout.L2_OFFSET_MASK else 0)


@given(st.lists(extended(), min_size=1, max_size=10), st.integers(0, 1000))
def test_extended_entries_decode_as_one_by_one(entries: list[tuple[int, int]], first: int):
    assert decoded(list(entries), EXTENDED, first * SIZE) == one_by_one(list(entries), EXTENDED, first * SIZE)


@given(st.lists(st.sampled_from([(0, 0), (SIZE, 0xFFFF_FFFF), (2 * SIZE, 0xFFFF_FFFF), (0, 0xFFFF_FFFF << 32)]), min_size=1))
def test_whole_clusters_with_subclusters_decode_as_one_by_one(entries: list[tuple[int, int]]):
    assert decoded(list(entries), EXTENDED) == one_by_one(list(entries), EXTENDED)


@pytest.mark.parametrize("word", [SIZE + 512, SIZE // 2 | layout.COPIED, SIZE + 512 | 1])
def test_an_offset_inside_a_cluster_is_refused(word: int):
    with pytest.raises(EntryError, match="not a cluster's start") as caught:
        decoded([(0,), (word,)], HEADER, 10 * SIZE)
    assert caught.value.guest == 11 * SIZE


def test_version_2_has_no_zero_clusters():
    with pytest.raises(EntryError, match="version 2"):
        decoded([(1,)], Header(2, BITS, 1 << 30, 0, 0, 0, 0))


@pytest.mark.parametrize("entry", [(SIZE, 1 << 32 | 1), (0, 1), (layout.COPIED, 1 << 31)])
def test_an_impossible_subcluster_bitmap_is_refused(entry: tuple[int, int]):
    with pytest.raises(EntryError, match="impossible subcluster bitmap"):
        decoded([(0, 0), entry], EXTENDED)


def test_a_data_word_is_marked_as_used_alone():
    assert data_word(5 * SIZE) == 5 * SIZE | layout.COPIED
