"""Protection: the level that is reported is the level that is there."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cowherd.errors import HostFileError, InvalidRequest
from cowherd.storage.protection import Protection, current, protect, unprotect
from tests.storage.hosts import NOBODY, as_nobody, require_root, run


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "base"
    path.write_bytes(b"content")
    path.chmod(0o644)
    yield path
    if os.geteuid() == 0 and shutil.which("chattr"):
        subprocess.run(["chattr", "-i", str(path)], check=False, capture_output=True)


@pytest.fixture
def chattr(tmp_path: Path) -> None:
    """Skips the test where this file system or this root has no immutable files."""
    require_root()
    probe = tmp_path / "probe"
    probe.touch()
    done = subprocess.run(["chattr", "+i", str(probe)], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no immutable files here: {done.stderr.strip()}")
    run("chattr", "-i", probe)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_levels_are_in_order() -> None:
    assert Protection.RECORDED < Protection.READONLY < Protection.IMMUTABLE
    assert [level.label for level in Protection] == ["recorded", "readonly", "immutable"]


def test_a_level_is_found_by_its_label_and_another_word_is_refused() -> None:
    assert Protection.named("immutable") is Protection.IMMUTABLE
    with pytest.raises(InvalidRequest, match="'frozen' is no level"):
        Protection.named("frozen")


def test_recorded_leaves_the_file_alone(path: Path) -> None:
    before = path.stat()
    assert protect(path, Protection.RECORDED) is Protection.RECORDED
    assert path.stat() == before


@pytest.mark.parametrize(("before", "after"), [(0o644, 0o444), (0o600, 0o400), (0o664, 0o444)])
def test_readonly_takes_the_write_bits_and_shows_nobody_more(path: Path, before: int, after: int) -> None:
    path.chmod(before)
    assert protect(path, Protection.READONLY) is Protection.READONLY
    assert mode_of(path) == after
    assert current(path) is Protection.READONLY


@pytest.mark.usefixtures("chattr")
def test_immutable_stops_even_root(path: Path) -> None:
    assert protect(path, Protection.IMMUTABLE) is Protection.IMMUTABLE
    assert "i" in run("lsattr", path).split()[0]
    assert mode_of(path) == 0o444
    for change in (lambda: path.write_bytes(b"x"), path.unlink, lambda: path.rename(path.with_name("moved"))):
        with pytest.raises(PermissionError):
            change()


@pytest.mark.usefixtures("chattr")
def test_immutability_that_another_program_gave_is_seen_and_not_lowered(path: Path) -> None:
    run("chattr", "+i", path)
    assert current(path) is Protection.IMMUTABLE
    assert protect(path, Protection.READONLY) is Protection.IMMUTABLE
    assert current(path) is Protection.IMMUTABLE


@pytest.mark.usefixtures("chattr")
def test_other_attributes_are_kept(path: Path) -> None:
    run("chattr", "+d", path)
    protect(path, Protection.IMMUTABLE)
    unprotect(path, 0o644)
    assert "d" in run("lsattr", path).split()[0]


@pytest.mark.usefixtures("chattr")
def test_unprotecting_gives_the_old_mode_back(path: Path) -> None:
    protect(path, Protection.IMMUTABLE)
    unprotect(path, 0o640)
    assert mode_of(path) == 0o640
    assert current(path) is Protection.RECORDED


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOTTY, errno.EPERM])
def test_immutable_where_the_file_system_has_none_is_reported_as_readonly(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "ioctl", fail)
    assert protect(path, Protection.IMMUTABLE) is Protection.READONLY
    assert mode_of(path) == 0o444


def test_a_file_system_that_ignores_chmod_is_reported_as_recorded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fchmod", lambda fd, mode: None)
    assert protect(path, Protection.READONLY) is Protection.RECORDED


def test_a_failing_disk_is_an_error_and_no_weaker_level(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int, mode: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fchmod", fail)
    with pytest.raises(HostFileError, match=r"Could not protect '.*base'"):
        protect(path, Protection.READONLY)


@pytest.mark.usefixtures("chattr")
def test_an_owner_without_privileges_reaches_readonly(path: Path) -> None:
    os.chown(path, NOBODY, NOBODY)
    with as_nobody(path.parent):
        assert protect(path.name, Protection.IMMUTABLE) is Protection.READONLY


def test_who_does_not_own_the_file_reaches_nothing(path: Path) -> None:
    with as_nobody(path.parent):
        assert protect(path.name, Protection.IMMUTABLE) is Protection.RECORDED
        with pytest.raises(HostFileError, match="Could not unprotect 'base': Operation not permitted"):
            unprotect(path.name, 0o644)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostFileError, match="nosuch"):
        protect(tmp_path / "nosuch", Protection.READONLY)
