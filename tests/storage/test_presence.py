from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cowherd.errors import HostFileError
from cowherd.storage.presence import is_directory, is_there, parted


def test_files_directories_and_links_that_lead_nowhere_are_there(tmp_path: Path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    assert [is_there(tmp_path / name) for name in ("file", ".", "link")] == [True] * 3


@pytest.mark.parametrize("name", ["none", "file/inside", "x" * 300, "zero\0byte"])
def test_what_has_no_such_name_is_not_there(tmp_path: Path, name: str):
    (tmp_path / "file").touch()
    assert not is_there(f"{tmp_path}/{name}")


def test_a_host_that_can_not_tell_has_not_said_no(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(path: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "lstat", fail)
    with pytest.raises(HostFileError, match="Input/output error"):
        is_there(tmp_path)


def test_directories_are_told_from_other_names(tmp_path: Path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(".")
    names = [f"{tmp_path}/{name}" for name in ("file", "link", "none", "file/inside", "zero\0byte", "")]
    assert [is_directory(name) for name in names] == [False, True, False, False, False, True]
    assert parted(names) == ([names[1], names[5]], [names[0], *names[2:5]])


def test_what_the_host_can_not_tell_of_is_not_taken_for_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(path: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "stat", fail)
    with pytest.raises(HostFileError, match="Input/output error"):
        is_directory(tmp_path)
