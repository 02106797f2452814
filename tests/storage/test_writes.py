"""Many buffers are written whole and in order, in calls that are not too large."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.storage.hostfile import HostFile
from cowherd.storage.writes import WRITE_BYTES, for_one_write, go_on


@given(st.lists(st.integers(1, 3 * WRITE_BYTES), min_size=1, max_size=8), st.floats(0.1, 1))
def test_all_of_all_buffers_is_written_in_order_also_where_the_host_takes_less(lengths: list[int], taken: float):
    data = memoryview(bytes(range(256)) * (sum(lengths) // 256 + 1))[: sum(lengths)]
    ends = [sum(lengths[: index + 1]) for index in range(len(lengths))]
    pending = [data[end - length : end] for length, end in zip(lengths, ends, strict=True)]
    first = written = 0
    while first < len(pending):
        now = for_one_write(pending, first)
        size = sum(map(len, now))
        assert 0 < size <= WRITE_BYTES
        count = max(1, int(size * taken))
        assert b"".join(now)[:count] == data[written : written + count]
        written += count
        first = go_on(pending, first, count)
    assert written == len(data)


def test_no_call_has_more_buffers_than_the_kernel_takes():
    assert len(for_one_write([memoryview(b"x")] * 5000, 10)) == 1024


@pytest.mark.parametrize("sizes", [[5 * WRITE_BYTES + 3], [7, 2 * WRITE_BYTES, 0, 9], [512] * 3000])
def test_no_call_of_a_file_writes_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int]):
    calls = []

    def pwritev(fd: int, buffers: list[memoryview], offset: int) -> int:
        calls.append(sum(map(len, buffers)))
        return real(fd, buffers, offset)

    real = os.pwritev
    monkeypatch.setattr(os, "pwritev", pwritev)
    data = [os.urandom(size) for size in sizes]
    with HostFile.create(tmp_path / "file") as file:
        file.pwritev(100, data)
    assert (tmp_path / "file").read_bytes() == bytes(100) + b"".join(data)
    assert max(calls) <= WRITE_BYTES
    assert len(calls) <= sum(sizes) // WRITE_BYTES + 3
