"""How much of a file shares its blocks with others, held against what was shared."""

from __future__ import annotations

import os

from cowherd.storage import sharing
from cowherd.storage.copying import clone_range
from cowherd.storage.hostfile import HostFile
from cowherd.storage.sharing import shared_bytes
from tests.storage.hosts import reflink_file_system

MIB = 1 << 20


def test_what_a_copy_shares_and_what_was_written_since(tmp_path):
    with reflink_file_system(tmp_path) as place:
        (place / "base").write_bytes(os.urandom(4 * MIB))
        assert shared_bytes(place / "base") == 0
        with HostFile.open(place / "base") as base, HostFile.create(place / "copy") as copy:
            assert clone_range(base, 0, copy, 0, 4 * MIB)
            copy.flush()
        assert (shared_bytes(place / "base"), shared_bytes(place / "copy")) == (4 * MIB, 4 * MIB)
        with HostFile.open(place / "copy", writable=True) as copy:
            copy.pwrite(MIB, os.urandom(MIB))
            copy.flush()
        assert shared_bytes(place / "copy") == 3 * MIB


def test_a_file_in_many_pieces_is_read_on_and_one_in_too_many_is_not_known(tmp_path, monkeypatch):
    with (tmp_path / "holes").open("wb") as file:
        for number in range(10):
            file.seek(number * MIB)
            file.write(b"data")
        file.flush()
        os.fsync(file.fileno())
    whole = shared_bytes(tmp_path / "holes")
    monkeypatch.setattr(sharing, "_AT_ONCE", 2)
    assert shared_bytes(tmp_path / "holes") == whole
    monkeypatch.setattr(sharing, "_MOST_CALLS", 2)
    assert shared_bytes(tmp_path / "holes") is None


def test_what_has_no_map_of_extents_is_not_known(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert shared_bytes(tmp_path / "pipe") is None
    assert shared_bytes("/proc/self/status") is None
    assert shared_bytes(tmp_path / "nothing") is None
    assert shared_bytes(tmp_path) is None


def test_the_question_leaves_the_time_of_the_last_reading_alone(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"data" * 1024)
    os.utime(file, ns=(1, 2))
    shared_bytes(file)
    assert file.stat().st_atime_ns == 1
