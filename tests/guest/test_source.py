"""Volumes in pieces: what lies where, both ways."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cowherd import extents
from cowherd.guest.source import Cached, Volume


@given(st.permutations(range(6)), st.lists(st.tuples(st.integers(0, 700), st.integers(0, 90)), max_size=6))
def test_what_of_a_disk_is_a_volume_s_is_what_lies_there_of_it(order, pairs):
    volume = Volume(Cached(lambda offset, length: bytes(length), 1000), "volume", [(at * 150 + 20, 100 + at) for at in order])
    ranges = extents.ranges((start, start + length) for start, length in pairs)
    inside = extents.intersect(ranges, extents.ranges([(0, volume.size)]))
    assert volume.from_disk(volume.on_disk(ranges)).tolist() == inside.tolist()
    on_disk = extents.intersect(ranges, volume.span)
    assert volume.on_disk(volume.from_disk(ranges)).tolist() == on_disk.tolist()
