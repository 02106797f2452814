"""fallocate(2): what it answers where the host can't, fails, or is interrupted."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cowherd.storage import fallocate


def answer(monkeypatch: pytest.MonkeyPatch, *answers: int) -> list[tuple[int, ...]]:
    """Lets fallocate(2) give these errnos, one a call; returns the list that the calls' arguments go into."""
    calls: list[tuple[int, ...]] = []
    left = list(answers)

    def fake(*request: int) -> int:
        calls.append(request)
        return left.pop(0)

    monkeypatch.setattr(fallocate, "_fallocate", lambda: fake)
    return calls


def test_an_interrupted_call_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = answer(monkeypatch, errno.EINTR, errno.EINTR, 0)
    assert fallocate.zero_range(7, 10, 20, unmap=True)
    assert calls == [(7, 0x03, 10, 20)] * 3


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV])
def test_unsupported_is_an_answer_and_no_error(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    answer(monkeypatch, code)
    assert fallocate.zero_range(7, 10, 20, unmap=False) is False


def test_a_full_disk_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        fallocate.zero_range(7, 10, 20, unmap=False)


def test_an_empty_range_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert answer(monkeypatch) == []
    assert fallocate.zero_range(7, 10, 0, unmap=False)


def test_the_kernels_own_error_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            fallocate.zero_range(fd, 0, 10, unmap=True)
    finally:
        os.close(fd)


def test_offsets_beyond_32_bits_arrive(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        os.pwrite(fd, b"x" * 4096, 5 << 30)
        if fallocate.zero_range(fd, 5 << 30, 4096, unmap=True):
            assert os.pread(fd, 4096, 5 << 30) == bytes(4096)
    finally:
        os.close(fd)
