from __future__ import annotations

import os
from pathlib import Path

import pytest

from cowherd.errors import HostFileError, NotEnoughSpace
from cowherd.storage import space


def test_the_free_bytes_are_those_of_the_file_system(tmp_path: Path):
    found = os.statvfs(tmp_path)
    assert 0 < space.free_bytes(tmp_path) <= found.f_blocks * found.f_frsize


def test_a_file_system_is_as_full_as_df_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # 100 blocks, 40 of them free, 20 of those for other users than the superuser: 60 of the 80 that a user has are taken.
    found = os.statvfs_result((4096, 4096, 100, 40, 20, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: found)
    assert space.fill_of(tmp_path) == 0.75
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255)))
    assert space.fill_of(tmp_path) == 0.0


def test_what_is_added_to_files_of_one_file_system_counts_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(space, "free_bytes", lambda path: 1000)
    space.check_space([(tmp_path, 600), (tmp_path, 400)])
    with pytest.raises(NotEnoughSpace) as refused:
        space.check_space([(tmp_path, 600), (tmp_path, 401)])
    assert (refused.value.needed, refused.value.free) == (1001, 1000)


def test_a_file_that_is_not_there_is_an_error_of_the_host(tmp_path: Path):
    with pytest.raises(HostFileError):
        space.check_space([(tmp_path / "gone", 1)])
