"""What another process has left is made durable before anybody builds on it."""

from __future__ import annotations

import os
import time

import pytest

from cowherd.errors import FlushFailed, HostFileError
from cowherd.storage.durable import make_durable, make_durable_if_recent
from cowherd.storage.transfer import give_name


@pytest.fixture
def flushed(monkeypatch) -> list[str]:
    """The files and directories that are flushed, in order."""
    found = []
    fsync = os.fsync

    def note(fd: int) -> None:
        found.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", note)
    return found


def test_a_file_and_its_name_are_made_durable(tmp_path, flushed):
    (tmp_path / "a").write_bytes(b"1")
    make_durable(tmp_path / "a")
    assert flushed == [str(tmp_path / "a"), str(tmp_path)]


def test_behind_a_link_the_file_and_both_names_are(tmp_path, flushed):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/a").write_bytes(b"1")
    (tmp_path / "link").symlink_to("there/a")
    make_durable(tmp_path / "link")
    assert sorted(flushed) == [str(tmp_path), str(tmp_path / "there"), str(tmp_path / "there/a")]


def test_a_name_that_is_gone_is_durably_gone(tmp_path, flushed):
    make_durable(tmp_path / "gone", tmp_path / "nowhere/gone")
    assert flushed == [str(tmp_path)]


def test_it_says_which_file_the_disk_does_not_take(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"1")

    def fail(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(FlushFailed, match="a': No space left on device; what was last written to it may be lost"):
        make_durable(tmp_path / "a")


def test_what_it_keeps_in_memory_is_forgotten_so_that_the_disk_is_read(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"1")
    asked = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *arguments: asked.append(arguments[1:]))
    make_durable(tmp_path / "a")
    assert asked == [(0, 0, os.POSIX_FADV_DONTNEED)]


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(HostFileError):
        make_durable(tmp_path / "pipe")


def test_what_was_changed_lately_is_made_durable_and_what_was_not_is_left_alone(tmp_path, flushed, monkeypatch):
    (tmp_path / "a").write_bytes(b"1")
    make_durable_if_recent(tmp_path / "a")
    assert str(tmp_path / "a") in flushed
    flushed.clear()
    later = time.time() + 2 * 3600
    monkeypatch.setattr(time, "time", lambda: later)
    make_durable_if_recent(tmp_path / "a")
    assert flushed == []


def test_a_name_from_an_earlier_call_is_made_durable_before_it_is_believed(tmp_path, flushed):
    (tmp_path / "there").mkdir()
    (tmp_path / "a").write_bytes(b"1")
    os.link(tmp_path / "a", tmp_path / "there/a")
    assert give_name(tmp_path / "a", tmp_path / "there/a")
    assert str(tmp_path / "there") in flushed
