"""Bytes are asked for in order, within a budget, and only where a disk would have to be waited for."""

from __future__ import annotations

import os

import pytest

from cowherd.storage import ahead
from cowherd.storage.ahead import jumps, reading_ahead
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


@pytest.fixture
def cold(monkeypatch):
    """Nothing is in memory."""

    def refuse(*given):
        raise BlockingIOError

    monkeypatch.setattr(ahead.os, "preadv", refuse)


def test_what_is_in_memory_is_not_asked_for(file, asked):
    file.pread(0, 8 * MIB)
    assert list(reading_ahead([0], lambda _: [(file, 0, 4 * MIB), (file, 6 * MIB, 2 * MIB)])) == [0]
    assert asked == []


@pytest.mark.parametrize("missing", [0, 6 * MIB])
def test_a_file_of_which_an_end_is_not_in_memory_is_asked_for(file, asked, monkeypatch, missing):
    read = os.preadv

    def refuse(fd, buffers, offset, flags=0):
        if missing <= offset < missing + 2 * MIB:
            raise BlockingIOError
        return read(fd, buffers, offset)

    monkeypatch.setattr(ahead.os, "preadv", refuse)
    assert list(reading_ahead([0], lambda _: [(file, 0, MIB), (file, 7 * MIB, MIB)])) == [0]
    assert {offset // MIB for offset, _ in asked} == {0, 7}


def test_requests_are_small_and_cover_what_is_needed(file, asked, cold):
    assert list(reading_ahead([0], lambda _: [(file, 1000, MIB)])) == [0]
    assert [offset for offset, _ in asked] == list(range(1000, 1000 + MIB, 128 << 10))
    assert sum(length for _, length in asked) == MIB


def test_files_are_asked_for_in_the_order_in_which_they_are_read(file, asked, cold, tmp_path):
    (tmp_path / "other").write_bytes(bytes(MIB))
    with HostFile.open(tmp_path / "other", lock=None) as other:
        assert list(reading_ahead([0], lambda _: [(file, 0, 10), (other, 20, 30), (file, 40, 50)])) == [0]
    assert asked == [(0, 10), (20, 30), (40, 50)]


def test_nobody_is_further_ahead_than_the_budget(file, asked, cold, monkeypatch):
    monkeypatch.setattr(ahead, "BUDGET_BYTES", 2 * MIB)
    taken = []
    for number in reading_ahead(range(8), lambda number: [(file, number * MIB, MIB)]):
        taken.append(number)
        assert sum(length for _, length in asked) <= (len(taken) + 2) * MIB
        assert asked[-1][0] >= number * MIB
    assert taken == list(range(8))


def test_items_that_need_nothing_of_a_disk_are_not_held_back(file, cold):
    drawn = []

    def items():
        for number in range(4):
            drawn.append(number)
            yield number

    found = reading_ahead(items(), lambda number: [(file, 0, MIB)] if number > 1 else [])
    assert next(found) == 0
    assert drawn == [0]
    assert list(found) == [1, 2, 3]


def test_little_is_planned_before_the_first_item_is_taken(file, asked, cold):
    """As for layers that are read in order: they are asked for once, and what follows counts for nothing."""
    drawn = []

    def items():
        for number in range(1000):
            drawn.append(number)
            yield number

    found = reading_ahead(items(), lambda number: [] if number else [(file, 0, MIB)])
    assert next(found) == 0
    assert len(drawn) < 50
    assert list(found) == list(range(1, 1000))
    assert asked[0] == (0, 128 << 10)


def test_a_file_system_that_can_not_tell_is_left_alone(file, asked, monkeypatch):
    refused = []

    def refuse(*given):
        refused.append(given)
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(ahead.os, "preadv", refuse)
    assert list(reading_ahead(range(100), lambda number: [(file, 0, MIB)])) == list(range(100))
    assert asked == []
    assert len(refused) == 1


def test_bytes_that_a_disk_must_bring_are_brought(file, monkeypatch):
    """On a file system in memory there is no disk, and so nothing to bring."""
    asked, ask = [], os.posix_fadvise

    def asking(fd, offset, length, advice):
        asked.append(length)
        ask(fd, offset, length, advice)

    file.forget_cached()
    monkeypatch.setattr(ahead.os, "posix_fadvise", asking)
    assert list(reading_ahead([0], lambda _: [(file, 0, 8 * MIB)])) == [0]
    assert sum(asked) in (0, 8 * MIB)
    assert len(file.pread(0, 8 * MIB)) == 8 * MIB


def test_only_where_a_file_is_not_read_in_order_is_it_told(file, tmp_path):
    (tmp_path / "other").write_bytes(b"other")
    with HostFile.open(tmp_path / "other", lock=None) as other:
        first, after, near = (file, 0, MIB), (file, MIB, MIB), (file, 2 * MIB + 65536, MIB)
        far, back, small = (file, 6 * MIB, 1), (file, 0, 1), (other, 0, 5)
        told = jumps(lambda number: [[first], [after], [near, small], [near], [far, back]][number])
        assert [list(told(number)) for number in range(5)] == [[first], [], [small], [near], [far, back]]
