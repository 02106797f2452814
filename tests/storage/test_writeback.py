"""Starting to write: it changes nothing, and can't fail."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cowherd.storage import writeback
from cowherd.storage.hostfile import HostFile
from cowherd.storage.writeback import WriteBehind


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    writeback._sync_file_range.cache_clear()
    yield
    writeback._sync_file_range.cache_clear()


def test_the_range_is_given_to_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []
    monkeypatch.setattr(writeback, "_sync_file_range", lambda: lambda *given: asked.append(given) or 0)
    with HostFile.create(tmp_path / "file") as file:
        file.start_writing(5 << 32, 4096)
        assert asked == [(file.fd, 5 << 32, 4096, 2)]


def test_the_content_stays_as_it_is(tmp_path: Path) -> None:
    with HostFile.create(tmp_path / "file") as file:
        file.pwrite(0, b"content" * 10000)
        file.start_writing(0, 70000)
        file.start_writing(1 << 40, 4096)
        assert file.pread(0, 70000) == b"content" * 10000


def test_the_kernel_knows_the_call_and_a_refusal_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 4096)
    reading, writing = os.pipe()
    fd = os.open(tmp_path / "file", os.O_RDWR)
    try:
        assert writeback._sync_file_range()(fd, 0, 4096, 2) == 0
        assert writeback._sync_file_range()(writing, 0, 4096, 2) == -1
        writeback.start_writing(writing, 0, 4096)
    finally:
        for number in (reading, writing, fd):
            os.close(number)


def test_a_c_library_without_the_call_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _name: object())
    with HostFile.create(tmp_path / "file") as file:
        file.start_writing(0, 4096)
    assert writeback._sync_file_range()(-1, 0, 0, 0) == 0


def test_much_that_is_written_is_sent_to_the_disk_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[int, int]] = []
    monkeypatch.setattr(HostFile, "start_writing", lambda self, offset, length: begun.append((offset, length)))
    with HostFile.create(tmp_path / "file") as file:
        behind = WriteBehind(file)
        for _ in range(5):
            behind.wrote(writeback.BEHIND_BYTES // 2)
    assert begun == [(0, 0), (0, 0)]
    WriteBehind(None).wrote(1 << 40)
