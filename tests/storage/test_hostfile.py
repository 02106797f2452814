"""HostFile: positional I/O that is complete or raises, and refusal of what is no image."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from pathlib import Path

import pytest

from cowherd import api
from cowherd.errors import FlushFailed, HostFileError, ImageInUse, ReadOnlyImage
from cowherd.storage import copying, fallocate, hostfile
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import READ, WRITE
from tests.qemu import Tool
from tests.storage.hosts import loop_device

BLOCK = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 32)
    return path


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_reading_past_the_end_gives_zeros(path: Path) -> None:
    with HostFile.open(path) as file:
        assert file.pread(8190, 6) == b"\xfe\xff" + bytes(4)
        assert file.pread(9000, 3) == bytes(3)


def test_reading_into_a_buffer_past_the_end_clears_the_rest(path: Path) -> None:
    buffer = bytearray(b"x" * 6)
    with HostFile.open(path) as file:
        file.preadinto(8190, memoryview(buffer))
    assert buffer == b"\xfe\xff" + bytes(4)


def test_short_reads_of_the_host_are_continued(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, read_into = os.pread, os.preadv
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: read(fd, min(length, 3), offset))
    monkeypatch.setattr(os, "preadv", lambda fd, views, offset: read_into(fd, [views[0][:5]], offset))
    with HostFile.open(path) as file:
        assert file.pread(100, 100) == bytes(range(100, 200))


@pytest.mark.parametrize("limit", [1, 3, 7, 1000])
def test_short_writes_of_the_host_are_continued(path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    write = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda fd, views, offset: write(fd, [b"".join(views)[:limit]], offset))
    with HostFile.open(path, writable=True) as file:
        file.pwritev(10, [b"abc", b"", b"defg", b"h"])
        file.pwrite(20, b"ijklm")
        assert file.pread(9, 17) == b"\x09abcdefgh\x12\x13ijklm\x19"


def test_more_buffers_than_one_call_takes_are_all_written(path: Path) -> None:
    with HostFile.open(path, writable=True) as file:
        file.pwritev(0, [bytes([n % 251]) for n in range(3000)])
        assert file.pread(0, 3000) == bytes(n % 251 for n in range(3000))


def test_buffers_of_wide_items_count_in_bytes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_into = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, views, offset: read_into(fd, [views[0].cast("B")[:5]], offset))
    words = memoryview(bytearray(16)).cast("I")
    with HostFile.open(path, writable=True) as file:
        file.preadinto(4, words)
        file.pwrite(100, words)
        assert bytes(words) == file.pread(100, 16) == bytes(range(4, 20))


def test_empty_requests_do_nothing(path: Path) -> None:
    with HostFile.open(path, writable=True) as file:
        file.preadinto(0, memoryview(bytearray()))
        file.pwrite(0, b"")
        assert file.pread(0, 0) == b""
        assert file.size() == 8192


def test_a_host_that_takes_no_bytes_is_an_error_and_no_endless_loop(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwritev", lambda fd, views, offset: 0)
    with HostFile.open(path, writable=True) as file, pytest.raises(HostFileError, match="Could not write"):
        file.pwrite(0, b"x")


def test_a_full_disk_is_named_with_the_file() -> None:
    with pytest.raises(HostFileError) as caught, hostfile.naming_file(Path("disk.raw"), "write"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(caught.value) == "Could not write 'disk.raw': No space left on device"
    assert caught.value.errno == errno.ENOSPC


def test_a_read_only_file_refuses_every_change(path: Path) -> None:
    with HostFile.open(path) as file:
        for change in (
            lambda: file.pwrite(0, b"x"),
            lambda: file.truncate(0),
            lambda: file.zero_range(0, 1, unmap=True),
            lambda: file.punch_hole(0, 1),
            lambda: file.preallocate(0, 1),
        ):
            with pytest.raises(ReadOnlyImage):
                change()


def test_a_missing_file_is_refused_in_qemus_words(tmp_path: Path) -> None:
    with pytest.raises(HostFileError) as caught:
        HostFile.open(tmp_path / "nosuch")
    assert str(caught.value) == f"Could not open '{tmp_path}/nosuch': No such file or directory"


def test_a_directory_is_refused_in_qemus_words(tmp_path: Path, qemu_img: Tool) -> None:
    for writable in (False, True):
        with pytest.raises(HostFileError) as caught:
            HostFile.open(tmp_path, writable=writable)
        assert str(caught.value) in qemu_img.run("info", tmp_path).stderr


def test_a_directory_is_not_created_over(tmp_path: Path) -> None:
    with pytest.raises(HostFileError, match=r"Could not create .* Is a directory"):
        HostFile.create(tmp_path)


def test_pipes_sockets_and_character_devices_are_refused(tmp_path: Path) -> None:
    pipe, name = tmp_path / "pipe", tmp_path / "socket"
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(name))
        for path in (pipe, name, Path("/dev/null")):
            for use in (HostFile.open, HostFile.create):
                with pytest.raises(HostFileError, match="not a regular file or block device"):
                    use(path)


def test_a_pipe_put_there_between_look_and_open_neither_hangs_nor_leaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setattr(hostfile, "refuse_other_than_images", lambda path, action: None)
    before = descriptors()
    with pytest.raises(HostFileError, match="not a regular file"):
        HostFile.open(pipe)
    assert descriptors() == before


def test_what_is_done_to_the_name_does_not_reach_the_open_file(path: Path) -> None:
    with HostFile.open(path, writable=True) as file:
        path.rename(path.with_name("moved"))
        path.write_bytes(b"other")
        file.pwrite(0, b"new")
        assert file.size() == 8192
    assert path.read_bytes() == b"other"
    assert path.with_name("moved").read_bytes().startswith(b"new")


def test_a_refused_open_leaks_no_descriptor(path: Path) -> None:
    with HostFile.open(path, writable=True, lock=WRITE):
        before = descriptors()
        with pytest.raises(ImageInUse):
            HostFile.open(path, lock=READ)
        assert descriptors() == before


def test_closing_twice_closes_nothing_else(path: Path) -> None:
    file = HostFile.open(path)
    number = file.fd
    file.close()
    other = os.open(path, os.O_RDONLY)
    assert other == number
    file.close()
    os.close(other)


def test_a_created_file_is_empty(path: Path) -> None:
    with HostFile.create(path) as file:
        assert file.size() == 0


def test_a_file_in_use_is_not_emptied(path: Path) -> None:
    with HostFile.open(path, lock=READ), pytest.raises(ImageInUse):
        HostFile.create(path)
    assert path.stat().st_size == 8192


def test_exclusive_creation_leaves_an_existing_file_alone(path: Path) -> None:
    with pytest.raises(HostFileError, match="File exists"):
        HostFile.create(path, exclusive=True)
    assert path.stat().st_size == 8192


def test_a_file_that_cannot_be_emptied_is_closed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int, size: int) -> None:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    monkeypatch.setattr(os, "ftruncate", fail)
    before = descriptors()
    with pytest.raises(HostFileError, match="Could not resize"):
        HostFile.create(path)
    assert descriptors() == before


def test_holes_are_told_from_data(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with HostFile.create(path) as file:
        file.truncate(64 * BLOCK)
        file.pwrite(16 * BLOCK, b"x" * (2 * BLOCK))
        file.pwrite(40 * BLOCK, b"y" * BLOCK)
        file.flush()
        assert list(file.data_ranges(0, 64 * BLOCK)) == [(16 * BLOCK, 18 * BLOCK), (40 * BLOCK, 41 * BLOCK)]
        assert list(file.data_ranges(17 * BLOCK, 40 * BLOCK)) == [(17 * BLOCK, 18 * BLOCK)]
        assert list(file.data_ranges(50 * BLOCK, 100 * BLOCK)) == []


def test_a_file_system_that_knows_no_holes_counts_as_all_data(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int, offset: int, whence: int) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "lseek", fail)
    with HostFile.open(path) as file:
        assert list(file.data_ranges(10, 100)) == [(10, 100)]


def test_an_unreadable_map_of_holes_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int, offset: int, whence: int) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "lseek", fail)
    with HostFile.open(path) as file, pytest.raises(HostFileError, match="holes"):
        list(file.data_ranges(10, 100))


@pytest.mark.parametrize("unmap", [True, False])
def test_a_zeroed_range_reads_as_zeros_and_keeps_the_length(path: Path, unmap: bool) -> None:
    with HostFile.open(path, writable=True) as file:
        if not file.zero_range(BLOCK, 4 * BLOCK, unmap=unmap):
            pytest.skip("this file system can't")
        assert file.pread(0, 2 * BLOCK) == bytes(range(256)) * 16 + bytes(BLOCK)
        assert file.size() == 8192


def test_unmapping_gives_space_back(path: Path) -> None:
    with HostFile.open(path, writable=True) as file:
        file.flush()
        before = file.allocated_bytes()
        if not file.zero_range(0, BLOCK, unmap=True):
            pytest.skip("this file system can't")
        assert file.allocated_bytes() == before - BLOCK


def test_a_file_system_that_cannot_zero_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallocate, "_fallocate", lambda: lambda *request: errno.EOPNOTSUPP)
    with HostFile.open(path, writable=True) as file:
        assert file.zero_range(0, BLOCK, unmap=True) is False
        file.punch_hole(0, BLOCK)


def test_preallocated_space_is_there_and_reads_as_zeros(path: Path) -> None:
    with HostFile.open(path, writable=True) as file:
        file.preallocate(8192, 1 << 20)
        assert file.size() == 8192 + (1 << 20)
        assert file.allocated_bytes() >= 1 << 20
        assert file.pread(8192, 100) == bytes(100)


def test_a_block_device_is_read_written_zeroed_and_measured(tmp_path: Path) -> None:
    backing = tmp_path / "device.img"
    backing.write_bytes(b"d" * (1 << 20))
    with loop_device(backing) as device, HostFile.open(device, writable=True, lock=WRITE) as file:
        assert (file.is_block_device, file.size(), file.sector_size()) == (True, 1 << 20, 512)
        assert not fcntl.fcntl(file.fd, fcntl.F_GETFL) & os.O_NONBLOCK
        file.pwrite(512, b"new")
        assert file.zero_range(BLOCK, BLOCK, unmap=True)
        assert file.zero_range(BLOCK + 100, 7, unmap=False) is False
        file.punch_hole(8 * BLOCK, BLOCK)
        file.punch_hole(1, 1)
        assert file.pread(511, 4) == b"dnew"
        assert file.pread(BLOCK - 1, BLOCK + 2) == b"d" + bytes(BLOCK) + b"d"
        assert list(file.data_ranges(0, 1 << 20)) == [(0, 1 << 20)]


def test_a_block_device_is_not_emptied_by_creating(tmp_path: Path) -> None:
    backing = tmp_path / "device.img"
    backing.write_bytes(b"d" * (1 << 20))
    with loop_device(backing) as device, HostFile.create(device) as file:
        assert file.pread(0, 4) == b"dddd"


def test_a_read_only_block_device_is_not_opened_for_writing(tmp_path: Path) -> None:
    backing = tmp_path / "device.img"
    backing.write_bytes(b"d" * (1 << 20))
    with loop_device(backing, "-r") as device:
        with pytest.raises(HostFileError, match=r"not writable|Permission denied|Operation not permitted"):
            HostFile.open(device, writable=True)
        with HostFile.open(device) as file:
            assert file.pread(0, 1) == b"d"


@pytest.fixture
def failing(tmp_path, monkeypatch) -> HostFile:
    """A file whose next flush fails, and only that: the host has forgotten what was written, and says nothing any more."""
    failures = [OSError(errno.ENOSPC, "No space left on device")]

    def fdatasync(fd: int) -> None:
        if failures:
            raise failures.pop()

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    with HostFile.create(tmp_path / "a", lock=None) as file:
        file.pwrite(0, b"written")
        yield file


def test_a_flush_that_failed_says_which_file_it_was_and_what_to_do(failing):
    with pytest.raises(FlushFailed) as raised:
        failing.flush()
    assert f"Could not flush '{failing.name}': No space left on device" in str(raised.value)
    assert "may be lost" in str(raised.value)
    assert "See to its disk first" in str(raised.value)
    assert raised.value.errno == errno.ENOSPC


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.flush(),
        lambda file: file.flush(whole=True),
        lambda file: file.pwrite(0, b"x"),
        lambda file: file.pwritev(0, [b"x"]),
        lambda file: file.truncate(100),
        lambda file: file.zero_range(0, 4, unmap=True),
        lambda file: file.punch_hole(0, 4),
        lambda file: file.preallocate(0, 4096),
        lambda file: copying.copy_range(file, 0, file, 4, 4),
        lambda file: copying.clone_range(file, 0, file, 4096, 4096),
    ],
)
def test_nothing_more_is_written_to_a_file_whose_flush_failed(failing, change):
    with pytest.raises(FlushFailed):
        failing.flush()
    with pytest.raises(FlushFailed):
        change(failing)
    assert failing.path.read_bytes() == b"written"


def test_what_the_host_keeps_in_memory_is_forgotten_when_a_flush_fails(failing, monkeypatch):
    asked = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *arguments: asked.append(arguments))
    with pytest.raises(FlushFailed):
        failing.flush()
    assert asked == [(failing.fd, 0, 0, os.POSIX_FADV_DONTNEED)]


def test_an_image_whose_flush_failed_writes_no_tables_when_it_is_closed(tmp_path, monkeypatch):
    path = tmp_path / "image"
    api.create(path, 1 << 20)
    disk = api.open(path, writable=True)
    disk.write(0, b"x" * 65536)
    real, calls = os.fdatasync, []

    def fdatasync(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 1:
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    with pytest.raises(FlushFailed):
        disk.flush()
    after = path.read_bytes()
    with pytest.raises(FlushFailed):
        disk.close()
    assert path.read_bytes() == after
    assert len(calls) == 1
    assert disk.layers[0].file.fd < 0


def test_a_device_gives_back_what_is_discarded(tmp_path):
    backing = tmp_path / "backing"
    backing.write_bytes(b"x" * (1 << 20))
    with loop_device(backing) as device, HostFile.open(device, writable=True, lock=WRITE) as file:
        file.punch_hole(1 << 16, 1 << 18)
        file.flush()
        assert file.pread(0, 1 << 20) == b"x" * (1 << 16) + bytes(1 << 18) + b"x" * ((1 << 20) - (1 << 16) - (1 << 18))
    assert os.stat(backing).st_blocks * 512 < 1 << 20


def test_a_device_no_longer_begins_as_it_did_before_anything_else_is_written(tmp_path, monkeypatch):
    backing = tmp_path / "backing"
    backing.write_bytes(b"x" * (1 << 20))
    with loop_device(backing) as device, HostFile.open(device, writable=True, lock=WRITE) as file:
        flushed, real = [], os.fdatasync
        monkeypatch.setattr(os, "fdatasync", lambda fd: flushed.append(os.pread(fd, 4, 0)) or real(fd))
        file.clear_signature()
    assert flushed == [bytes(4)]
