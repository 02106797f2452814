"""Atomic files: whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from cowherd.errors import HostFileError
from cowherd.storage.atomic import make_name_lasting, newcomer, replacement, sync_directory, write_atomically


def fail_in(monkeypatch: pytest.MonkeyPatch, function: str, code: int = errno.EIO) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, function, fail)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_one_buffer_or_several_become_the_files_content(tmp_path: Path) -> None:
    write_atomically(tmp_path / "one", b"abc")
    write_atomically(tmp_path / "several", [b"ab", bytearray(b"c"), memoryview(b"d")])
    write_atomically(tmp_path / "empty", b"")
    assert [(tmp_path / name).read_bytes() for name in ("one", "several", "empty")] == [b"abc", b"abcd", b""]


@pytest.mark.parametrize("step", ["pwritev", "fsync", "rename", "fchmod"])
def test_a_failure_at_any_step_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    fail_in(monkeypatch, step, errno.ENOSPC)
    with pytest.raises(HostFileError, match=f"'{path}': No space left"):
        write_atomically(path, b"new", mode=0o600)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_an_exception_of_the_caller_leaves_nothing_behind(tmp_path: Path) -> None:
    def stopped_halfway() -> None:
        with replacement(tmp_path / "file") as file:
            file.pwrite(0, b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped_halfway()
    assert os.listdir(tmp_path) == []


def test_data_is_flushed_before_the_rename_and_the_directory_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []

    def watch(name: str) -> None:
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args: (steps.append(name), real(*args))[1])

    for name in ("pwritev", "fdatasync", "rename", "fsync"):
        watch(name)
    write_atomically(tmp_path / "file", b"x")
    assert steps == ["pwritev", "fdatasync", "rename", "fsync"]


def test_a_mode_that_was_asked_for_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (flushed.append(stat.S_IMODE(os.fstat(fd).st_mode)), real(fd))[1])
    write_atomically(tmp_path / "file", b"x", mode=0o444)
    assert flushed[0] == 0o444


def test_the_asked_mode_is_given_whatever_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0o077)
    try:
        write_atomically(tmp_path / "file", b"x", mode=0o644)
    finally:
        os.umask(umask)
    assert mode_of(tmp_path / "file") == 0o644


def test_a_private_file_is_private_from_its_first_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    born_with: list[int] = []
    monkeypatch.setattr(os, "fchmod", lambda fd, mode: born_with.append(stat.S_IMODE(os.fstat(fd).st_mode)))
    with replacement(tmp_path / "file", 0o600) as file:
        assert mode_of(file.path) == 0o600
    assert born_with == [0o600]


def test_a_replaced_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(0o640)
    write_atomically(path, b"x")
    assert mode_of(path) == 0o640


def test_a_symbolic_link_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_bytes(b"precious")
    link.symlink_to(victim)
    write_atomically(link, b"new")
    assert (victim.read_bytes(), link.read_bytes(), link.is_symlink()) == (b"precious", b"new", False)


def test_the_longest_file_name_that_the_host_takes_is_fine(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("n" * 255), b"x")
    assert os.listdir(tmp_path) == ["n" * 255]


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostFileError, match="nowhere"):
        write_atomically(tmp_path / "nowhere" / "file", b"x")


def test_a_directory_that_needs_no_flush_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_in(monkeypatch, "fsync", errno.EINVAL)
    write_atomically(tmp_path / "file", b"x")
    assert (tmp_path / "file").read_bytes() == b"x"


def test_a_directory_that_fails_to_flush_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_in(monkeypatch, "fsync")
    with pytest.raises(HostFileError, match="flush the directory"):
        sync_directory(tmp_path)


def test_a_newcomer_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    with newcomer(tmp_path / "file") as file:
        file.pwrite(0, b"whole")
        assert not (tmp_path / "file").exists()
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["file"]


def test_a_newcomer_takes_nobodys_name(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def late() -> None:
        with newcomer(path):
            path.write_bytes(b"first")

    with pytest.raises(HostFileError, match="File exists"):
        late()
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("step", ["pwritev", "fdatasync", "link"])
def test_a_newcomer_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    fail_in(monkeypatch, step, errno.ENOSPC)

    def full() -> None:
        with newcomer(tmp_path / "file") as file:
            file.pwrite(0, b"whole")

    with pytest.raises(HostFileError, match=f"'{tmp_path / 'file'}': No space left"):
        full()
    assert os.listdir(tmp_path) == []


def test_a_name_in_a_directory_that_may_not_be_read_is_left_to_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_in(monkeypatch, "open", errno.EACCES)
    make_name_lasting(tmp_path / "file")
    fail_in(monkeypatch, "open", errno.EIO)
    with pytest.raises(HostFileError, match="flush the directory"):
        make_name_lasting(tmp_path / "file")
