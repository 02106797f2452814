from __future__ import annotations

import os

import pytest

from cowherd.errors import HostFileError
from cowherd.storage.directory import Directory


def test_what_is_done_in_an_open_directory_is_done_there_whatever_takes_its_name(tmp_path):
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    other.mkdir()
    (home / "a").write_text("mine")
    (other / "a").write_text("theirs")
    with Directory.open(home) as place:
        home.rename(tmp_path / "moved")
        home.symlink_to(other)
        assert place.names() == ["a"]
        os.unlink(place.held("a"))
    assert not (tmp_path / "moved" / "a").exists()
    assert (other / "a").read_text() == "theirs"


def test_no_step_of_the_way_there_may_be_a_link(tmp_path):
    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    for path in (tmp_path / "link", tmp_path / "link" / "below"):
        with pytest.raises(HostFileError):
            Directory.open(path)
    with Directory.open(tmp_path) as place, pytest.raises(HostFileError):
        place.below("link")


def test_a_name_is_looked_up_as_it_is_and_not_followed(tmp_path):
    (tmp_path / "link").symlink_to("/etc")
    with Directory.open(tmp_path) as place:
        found = place.look_up("link")
        assert found is not None
        assert (found.st_ino, place.look_up("none")) == ((tmp_path / "link").lstat().st_ino, None)
        assert place.info().st_ino == tmp_path.stat().st_ino
