"""Copying: shared blocks where the file system has them, and complete copies everywhere."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from cowherd.errors import HostFileError, InvalidRequest, ReadOnlyImage
from cowherd.storage import copying
from cowherd.storage.copying import FileRange, FileRanges, clone_file, clone_range, copy_range
from cowherd.storage.hostfile import HostFile
from tests.storage.hosts import reflink_file_system, run

BLOCK = 4096
CONTENT = bytes(range(256)) * 64  # four blocks


@pytest.fixture(scope="module")
def reflink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with reflink_file_system(tmp_path_factory.mktemp("file-system")) as directory:
        yield directory


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[HostFile, HostFile]]:
    """A source with CONTENT and an empty target, on a file system that may have reflink or not."""
    (tmp_path / "source").write_bytes(CONTENT)
    with HostFile.open(tmp_path / "source") as source, HostFile.create(tmp_path / "target") as target:
        yield source, target


def shares_blocks(path: Path) -> bool:
    return re.search(r"flags.*\n(.*\n)*.*shared", run("filefrag", "-v", path)) is not None


def refuse(monkeypatch: pytest.MonkeyPatch, module: object, function: str, code: int) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(module, function, fail)


def test_a_cloned_range_shares_blocks_until_one_side_writes(reflink: Path) -> None:
    (reflink / "a").write_bytes(CONTENT)
    with HostFile.open(reflink / "a") as source, HostFile.create(reflink / "b") as target:
        assert clone_range(source, BLOCK, target, 2 * BLOCK, 2 * BLOCK)
        target.flush()
        assert shares_blocks(reflink / "b")
        assert target.pread(0, 4 * BLOCK) == bytes(2 * BLOCK) + CONTENT[BLOCK : 3 * BLOCK]
        target.pwrite(2 * BLOCK, b"other")
        assert source.pread(0, 4 * BLOCK) == CONTENT


def test_a_range_that_is_not_whole_blocks_is_not_cloned(reflink: Path) -> None:
    (reflink / "c").write_bytes(CONTENT)
    with HostFile.open(reflink / "c") as source, HostFile.create(reflink / "d") as target:
        assert clone_range(source, 1, target, 0, 512) is False
        assert target.size() == 0


def test_an_empty_range_clones_nothing(reflink: Path) -> None:
    (reflink / "e").write_bytes(CONTENT)
    with HostFile.open(reflink / "e") as source, HostFile.create(reflink / "f") as target:
        assert clone_range(source, 0, target, 0, 0)
        assert target.size() == 0


def test_files_on_different_file_systems_share_nothing(reflink: Path, pair: tuple[HostFile, HostFile]) -> None:
    with HostFile.create(reflink / "g") as target:
        assert clone_range(pair[0], 0, target, 0, BLOCK) is False
    assert clone_file(pair[0].path, reflink / "h") is False
    assert not (reflink / "h").exists()


def test_a_file_system_without_reflink_says_so(pair: tuple[HostFile, HostFile], monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, fcntl, "ioctl", errno.EOPNOTSUPP)
    assert clone_range(*pair[:1], 0, pair[1], 0, BLOCK) is False


def test_a_failing_clone_is_an_error_and_no_answer(pair: tuple[HostFile, HostFile], monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, fcntl, "ioctl", errno.ENOSPC)
    with pytest.raises(HostFileError, match=r"target.*No space left"):
        clone_range(pair[0], 0, pair[1], 0, BLOCK)


def test_a_cloned_file_has_content_mode_and_blocks_of_its_source(reflink: Path) -> None:
    source = reflink / "base"
    source.write_bytes(CONTENT)
    source.chmod(0o640)
    (reflink / "shadow").write_bytes(b"an older one")
    assert clone_file(source, reflink / "shadow")
    assert (reflink / "shadow").read_bytes() == CONTENT
    assert stat.S_IMODE((reflink / "shadow").stat().st_mode) == 0o640
    assert shares_blocks(reflink / "shadow")


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOSPC])
def test_a_clone_that_is_not_made_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    (tmp_path / "source").write_bytes(CONTENT)
    (tmp_path / "target").write_bytes(b"old")
    refuse(monkeypatch, fcntl, "ioctl", code)
    if code == errno.EOPNOTSUPP:
        assert clone_file(tmp_path / "source", tmp_path / "target") is False
    else:
        with pytest.raises(HostFileError):
            clone_file(tmp_path / "source", tmp_path / "target")
    assert sorted(os.listdir(tmp_path)) == ["source", "target"]
    assert (tmp_path / "target").read_bytes() == b"old"


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostFileError, match="nosuch"):
        clone_file(tmp_path / "nosuch", tmp_path / "target")


@pytest.mark.parametrize("code", [None, errno.EXDEV, errno.ENOSYS, errno.EINVAL])
def test_a_copied_range_is_complete_with_or_without_the_kernels_help(
    pair: tuple[HostFile, HostFile], monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    if code is not None:
        refuse(monkeypatch, os, "copy_file_range", code)
    monkeypatch.setattr(copying, "_PLAIN_CHUNK", 1000)
    copy_range(pair[0], 10, pair[1], 5, 10000)
    assert pair[1].pread(0, 10005) == bytes(5) + CONTENT[10:10010]
    assert pair[1].size() == 10005


def test_short_copies_of_the_kernel_are_continued(pair: tuple[HostFile, HostFile], monkeypatch: pytest.MonkeyPatch) -> None:
    real, sizes = os.copy_file_range, iter([100, 50, 0])
    monkeypatch.setattr(
        os, "copy_file_range", lambda source, target, count, *offsets: real(source, target, next(sizes), *offsets)
    )
    monkeypatch.setattr(copying, "_KERNEL_CHUNK", 4000)
    copy_range(pair[0], 0, pair[1], 0, len(CONTENT))
    assert pair[1].pread(0, len(CONTENT)) == CONTENT


def test_zeros_are_copied_from_past_the_end(pair: tuple[HostFile, HostFile]) -> None:
    pair[1].pwrite(0, b"x" * 100)
    copy_range(pair[0], len(CONTENT) - 10, pair[1], 0, 100)
    assert pair[1].pread(0, 101) == CONTENT[-10:] + bytes(91)


def test_the_error_names_the_file_at_fault(pair: tuple[HostFile, HostFile], monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, os, "copy_file_range", errno.EIO)
    refuse(monkeypatch, os, "preadv", errno.EIO)
    with pytest.raises(HostFileError, match=r"Could not read '.*source'"):
        copy_range(pair[0], 0, pair[1], 0, 10)


def test_ranges_of_one_file_may_not_overlap(pair: tuple[HostFile, HostFile]) -> None:
    pair[1].pwrite(0, b"abcdefgh")
    with pytest.raises(InvalidRequest, match="over itself"):
        copy_range(pair[1], 0, pair[1], 3, 4)
    copy_range(pair[1], 0, pair[1], 4, 4)
    assert pair[1].pread(0, 8) == b"abcdabcd"


@pytest.mark.parametrize("means", [copy_range, clone_range])
def test_a_target_that_is_open_read_only_is_refused(pair: tuple[HostFile, HostFile], means: object) -> None:
    assert callable(means)
    with pytest.raises(ReadOnlyImage):
        means(pair[1], 0, pair[0], 0, 10)


def test_a_part_of_a_file_range_is_put_where_it_is_wanted(pair: tuple[HostFile, HostFile]) -> None:
    source, target = pair
    whole = FileRange(source, 100, 5000, shares=False)
    part = whole[1000:3000]
    assert (len(whole), len(part)) == (5000, 2000)
    part.put(target, 7)
    assert target.pread(7, 2000) == CONTENT[1100:3100]
    assert target.size() == 2007


def test_a_file_range_shares_whole_blocks_and_copies_others(reflink: Path) -> None:
    (reflink / "whole").write_bytes(CONTENT)
    for name, start, shared in (("blocks", BLOCK, True), ("odd", BLOCK + 1, False)):
        with HostFile.open(reflink / "whole") as source, HostFile.create(reflink / name) as target:
            FileRange(source, start, 2 * BLOCK, shares=True).put(target, 0)
            target.flush()
            assert target.pread(0, 2 * BLOCK) == CONTENT[start : start + 2 * BLOCK]
        assert shares_blocks(reflink / name) is shared


@pytest.mark.parametrize(("first", "end"), [(0, 300), (0, 100), (100, 150), (99, 101), (50, 299), (250, 1000), (7, 7)])
def test_a_part_of_several_file_ranges_is_put_as_one(pair: tuple[HostFile, HostFile], first: int, end: int) -> None:
    source, target = pair
    places = [(1000, 100), (30, 50), (8000, 150)]
    row = FileRanges([FileRange(source, offset, length, shares=False) for offset, length in places])
    content = b"".join(CONTENT[offset : offset + length] for offset, length in places)
    part = row[first:end]
    assert len(row) == 300
    assert len(part) == len(content[first:end])
    part.put(target, 10)
    assert target.pread(10, 300) == content[first:end].ljust(300, b"\0")


def test_bytes_of_several_file_ranges_are_read_as_of_one(pair: tuple[HostFile, HostFile]) -> None:
    source, _ = pair
    places = [(4000, 96), (80, 64), (16300, 160)]  # the last one reaches past the end
    row = FileRanges([FileRange(source, offset, length, shares=False) for offset, length in places])
    content = b"".join(CONTENT[offset : offset + length].ljust(length, b"\0") for offset, length in places)
    buffer = bytearray(150)
    row.readinto(90, memoryview(buffer))
    assert buffer == content[90:240]
    assert row.words(32) == b"".join(content[start : start + 8] for start in range(0, 320, 32))
