"""Bytes are asked for in order, within a budget, and only where a disk would have to be waited for."""

from __future__ import annotations

import os

import pytest

from cowherd.storage import ahead
from cowherd.storage.ahead import ask_for, jumps, reading_ahead
from cowherd.storage.hostfile import HostFile

MIB = 1 << 20


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(8 * MIB))
    with HostFile.open(path, lock=None) as opened:
        yield opened


@pytest.fixture
def asked(monkeypatch):
    """The requests that the kernel got: (offset, length)."""
    found = []
    monkeypatch.setattr(ahead.os, "posix_fadvise", lambda fd, offset, length, advice: found.append((offset, length)))
    return found


def cold(monkeypatch):
    """Lets nothing be in memory."""
    monkeypatch.setattr(ahead, "_is_in_memory", lambda fd, offset: False)


def test_what_is_in_memory_is_not_asked_for(file, asked):
    file.pread(0, 8 * MIB)
    assert ask_for(file, 0, 8 * MIB) == 0
    assert asked == []


def test_requests_are_small_and_cover_what_is_needed(file, asked, monkeypatch):
    cold(monkeypatch)
    assert ask_for(file, 1000, MIB) == MIB
    assert [offset for offset, _ in asked] == list(range(1000, 1000 + MIB, 128 << 10))
    assert sum(length for _, length in asked) == MIB


def test_nobody_is_further_ahead_than_the_budget(file, asked, monkeypatch):
    cold(monkeypatch)
    monkeypatch.setattr(ahead, "BUDGET_BYTES", 2 * MIB)
    taken = []
    for number in reading_ahead(range(8), lambda number: [(file, number * MIB, MIB)]):
        taken.append(number)
        assert sum(length for _, length in asked) <= (len(taken) + 2) * MIB
        assert asked[-1][0] >= number * MIB
    assert taken == list(range(8))


def test_items_that_need_nothing_of_a_disk_are_not_held_back(file, monkeypatch):
    cold(monkeypatch)
    drawn = []

    def items():
        for number in range(4):
            drawn.append(number)
            yield number

    found = reading_ahead(items(), lambda number: [(file, 0, MIB)] if number > 1 else [])
    assert next(found) == 0
    assert drawn == [0]
    assert list(found) == [1, 2, 3]


def test_a_file_system_that_can_not_tell_is_left_alone(file, asked, monkeypatch):
    def refuse(*given):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(ahead.os, "preadv", refuse)
    assert ask_for(file, 0, MIB) == 0
    assert asked == []


def test_bytes_that_a_disk_must_bring_are_brought(file):
    """On a file system in memory there is no disk, and so nothing to bring."""
    file.forget_cached()
    wanted = ask_for(file, 0, 8 * MIB)
    assert wanted in (0, 8 * MIB)
    assert len(file.pread(0, 8 * MIB)) == 8 * MIB


def test_only_where_a_file_is_not_read_in_order_is_it_told(file, tmp_path):
    (tmp_path / "other").write_bytes(b"other")
    with HostFile.open(tmp_path / "other", lock=None) as other:
        first, after, near = (file, 0, MIB), (file, MIB, MIB), (file, 2 * MIB + 65536, MIB)
        far, back, small = (file, 6 * MIB, 1), (file, 0, 1), (other, 0, 5)
        told = jumps(lambda number: [[first], [after, small], [near], [far], [back]][number])
        assert [list(told(number)) for number in range(5)] == [[first], [small], [], [far], [back]]
