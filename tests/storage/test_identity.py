"""FileIdentity: the same file, untouched or not."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from cowherd.errors import HostFileError
from cowherd.storage.identity import FileIdentity, announce_change, make_lasting


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


def test_a_name_a_link_and_a_descriptor_of_one_file_give_one_identity(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    fd = os.open(path, os.O_RDONLY)
    try:
        assert FileIdentity.of(path) == FileIdentity.of(link) == FileIdentity.of(fd)
    finally:
        os.close(fd)


def test_a_touched_file_is_the_same_file_with_another_identity(path: Path) -> None:
    before = FileIdentity.of(path)
    os.utime(path, ns=(1, 1))
    after = FileIdentity.of(path)
    assert after != before
    assert after.same_file(before)


def test_a_write_hidden_by_resetting_mtime_still_shows_in_ctime(path: Path) -> None:
    os.utime(path, ns=(5, 5))
    before = FileIdentity.of(path)
    while FileIdentity.of(path).ctime_ns == before.ctime_ns:  # the host's clock ticks every few milliseconds
        path.write_bytes(b"CONTENT")
        os.utime(path, ns=(5, 5))
    after = FileIdentity.of(path)
    assert (after.size, after.mtime_ns) == (before.size, before.mtime_ns)
    assert after != before


def test_a_replacement_of_the_same_content_is_another_file(path: Path) -> None:
    before = FileIdentity.of(path)
    other = path.with_name("other")
    other.write_bytes(b"content")
    other.rename(path)
    assert not FileIdentity.of(path).same_file(before)


def test_an_identity_survives_json(path: Path) -> None:
    identity = FileIdentity.of(path)
    assert FileIdentity.from_dict(json.loads(json.dumps(identity.to_dict()))) == identity


@pytest.mark.parametrize("wrong", [None, "12", 1.0, True])
def test_a_field_that_is_no_integer_is_refused_by_name(path: Path, wrong: object) -> None:
    with pytest.raises(ValueError, match="'mtime_ns'"):
        FileIdentity.from_dict({**FileIdentity.of(path).to_dict(), "mtime_ns": wrong})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostFileError, match="nosuch"):
        FileIdentity.of(tmp_path / "nosuch")


def test_a_closed_descriptor_is_named() -> None:
    with pytest.raises(HostFileError, match="file descriptor 987654"):
        FileIdentity.of(987654)


def test_a_change_that_is_announced_shows_in_the_times_and_is_flushed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: flushed.append(os.fstat(fd).st_mtime_ns))
    os.utime(path, (1, 1))
    announce_change(path)
    assert flushed == [path.stat().st_mtime_ns] != [10**9]


def test_a_change_of_a_file_that_is_not_there_is_not_announced(tmp_path: Path) -> None:
    announce_change(tmp_path / "gone")
    assert list(tmp_path.iterdir()) == []


def test_times_that_cannot_be_made_lasting_are_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(HostFileError, match="flush"):
        make_lasting(path)
