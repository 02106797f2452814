"""Raw images, beside QEMU on copies of the same file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cowherd import extents as ext
from cowherd.errors import InvalidRequest, ReadOnlyImage
from cowherd.formats.raw import Raw
from cowherd.image.disk import Disk
from cowherd.image.open import open_disk
from cowherd.storage.hostfile import HostFile
from tests.images import KIB, MIB
from tests.qemu import Tool

ODD = 1000


def odd_file(path: Path) -> Path:
    path.write_bytes(bytes(i % 251 + 1 for i in range(ODD)))
    return path


@pytest.mark.parametrize("length", [0, 1, 511, 512, 513, 1000, 65537])
def test_the_size_is_rounded_up_to_a_sector_as_in_qemu(tmp_path: Path, qemu_img: Tool, length: int):
    path = tmp_path / "image"
    path.write_bytes(b"x" * length)
    qemu_img("convert", "-f", "raw", "-O", "raw", path, tmp_path / "copy")
    with open_disk(path, format="raw") as disk:
        assert disk.read(0, disk.size) == (tmp_path / "copy").read_bytes()


REQUESTS: dict[str, tuple[str, Callable[[Disk], None]]] = {
    "write the last sector": ("write -P 1 512 512", lambda disk: disk.write(512, b"\1" * 512)),
    "write before the end": ("write -P 1 900 50", lambda disk: disk.write(900, b"\1" * 50)),
    "write up to the end": ("write -P 1 900 100", lambda disk: disk.write(900, b"\1" * 100)),
    "write across the end": ("write -P 1 990 20", lambda disk: disk.write(990, b"\1" * 20)),
    "write nothing": ("write -P 1 512 0", lambda disk: disk.write(512, b"")),
    "zero the last sector": ("write -z 512 512", lambda disk: disk.zero(512, 512, unmap=False)),
    "unmap the last sector": ("write -z -u 512 512", lambda disk: disk.zero(512, 512)),
    "discard all": ("discard 0 1024", lambda disk: disk.discard(0, 1024)),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_file_that_ends_inside_a_sector_is_changed_as_by_qemu(tmp_path: Path, qemu_io: Tool, qemu_img: Tool, name: str):
    """QEMU may make the file longer when it writes zeros; a guest can't tell."""
    command, request = REQUESTS[name]
    ours, theirs = odd_file(tmp_path / "ours"), odd_file(tmp_path / "theirs")
    qemu_io("-d", "unmap", "-f", "raw", "-c", command, theirs)
    with open_disk(ours, format="raw", writable=True) as disk:
        request(disk)
        assert disk.size == 1024
    assert ours.read_bytes().ljust(1024, b"\0") == theirs.read_bytes().ljust(1024, b"\0")


def test_holes_are_zeros_with_a_place(tmp_path: Path):
    path = tmp_path / "image"
    with path.open("wb") as file:
        file.truncate(4 * MIB)
        file.seek(MIB)
        file.write(b"x" * 64 * KIB)
    with Raw(HostFile.open(path, lock=None)) as raw:
        found = raw.extents(0, raw.size)
        assert [(start, start + length, kind) for start, length, _, _, kind in found.tolist()] == [
            (0, MIB, ext.ZERO),
            (MIB, MIB + 64 * KIB, ext.DATA),
            (MIB + 64 * KIB, 4 * MIB, ext.ZERO),
        ]
        assert (found["host"] == found["start"]).all()


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 63), st.integers(1, 8)), max_size=8), st.integers(0, 64 * 4096), st.integers(0, 64 * 4096)
)
def test_extents_cover_any_range(tmp_path_factory: pytest.TempPathFactory, written: list[tuple[int, int]], start: int, end: int):
    path = tmp_path_factory.mktemp("raw") / "image"
    size = 64 * 4096
    with path.open("wb") as file:
        file.truncate(size)
        for block, blocks in written:
            file.seek(block * 4096)
            file.write(b"x" * min(blocks * 4096, size - block * 4096))
    start, end = min(start, end), max(start, end)
    content = path.read_bytes()
    with Raw(HostFile.open(path, lock=None)) as raw:
        position = start
        for first, length, host, depth, kind in raw.extents(start, end - start).tolist():
            assert first == position == host
            assert length > 0
            assert depth == 0
            assert kind == ext.DATA or not any(content[first : first + length])
            position += length
        assert position == end


def test_what_is_punched_becomes_a_hole(tmp_path: Path):
    path = tmp_path / "image"
    path.write_bytes(b"x" * MIB)
    before = path.stat().st_blocks
    with open_disk(path, format="raw", writable=True) as disk:
        disk.zero(256 * KIB, 512 * KIB)
        assert disk.read(0, MIB) == b"x" * (256 * KIB) + bytes(512 * KIB) + b"x" * (256 * KIB)
    assert path.stat().st_blocks < before
    assert path.stat().st_size == MIB


def test_zeros_that_keep_their_space_do(tmp_path: Path):
    path = tmp_path / "image"
    path.write_bytes(b"x" * MIB)
    before = path.stat().st_blocks
    with open_disk(path, format="raw", writable=True) as disk:
        disk.zero(0, MIB, unmap=False)
        assert disk.read(0, MIB) == bytes(MIB)
    assert path.stat().st_blocks >= before


def test_zeros_are_written_where_the_host_has_no_other_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "image"
    path.write_bytes(b"x" * (3 * MIB))
    monkeypatch.setattr(HostFile, "zero_range", lambda *_, **__: False)
    with open_disk(path, format="raw", writable=True) as disk:
        disk.zero(1000, 2 * MIB + 7)
    assert path.read_bytes() == b"x" * 1000 + bytes(2 * MIB + 7) + b"x" * (MIB - 1007)


def test_an_image_opened_to_be_read_is_not_changed(tmp_path: Path):
    path = odd_file(tmp_path / "image")
    with open_disk(path, format="raw") as disk:
        for change in (
            lambda: disk.write(0, b"x"),
            lambda: disk.zero(0, 1),
            lambda: disk.discard(0, 512),
            lambda: disk.resize(512),
        ):
            with pytest.raises(ReadOnlyImage):
                change()
    assert path.stat().st_size == ODD


def test_requests_behind_the_end_are_refused(tmp_path: Path):
    path = odd_file(tmp_path / "image")
    with open_disk(path, format="raw", writable=True) as disk:
        for request in (
            lambda: disk.read(1024, 1),
            lambda: disk.write(1020, b"12345"),
            lambda: disk.read(-1, 1),
            lambda: disk.zero(0, 1025),
        ):
            with pytest.raises(InvalidRequest):
                request()
        assert disk.read(1024, 0) == b""


def test_resizing_sets_the_length_to_the_byte(tmp_path: Path, qemu_img: Tool):
    ours, theirs = odd_file(tmp_path / "ours"), odd_file(tmp_path / "theirs")
    for size in (700, 1030, 5000):
        qemu_img("resize", "-q", "--shrink", "-f", "raw", theirs, size)
        with open_disk(ours, format="raw", writable=True) as disk:
            disk.resize(size)
            assert disk.size == -(-size // 512) * 512
        assert ours.read_bytes() == theirs.read_bytes()


def test_a_raw_image_has_no_backing_file(tmp_path: Path):
    path = odd_file(tmp_path / "image")
    with open_disk(path, format="raw", writable=True) as disk:
        assert disk.layers[0].backing is None
        with pytest.raises(InvalidRequest, match="no backing file"):
            disk.set_backing(None)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("losetup"), reason="needs root and loop devices")
def test_a_block_device_is_as_large_as_it_is(tmp_path: Path):
    path = tmp_path / "image"
    path.write_bytes(b"d" * MIB)
    attach = Tool("losetup").run("--find", "--show", str(path))
    if attach.returncode:
        pytest.skip(f"no loop device: {attach.stderr}")
    device = attach.stdout.strip()
    try:
        with open_disk(device, format="raw", writable=True) as disk:
            assert disk.size == MIB
            disk.write(4096, b"w" * 100)
            disk.zero(8192, 4096)
            disk.zero(20000, 1000)
            disk.flush()
            expected = b"d" * 4096 + b"w" * 100 + b"d" * 3996 + bytes(4096) + b"d" * (20000 - 12288) + bytes(1000)
            assert disk.read(0, 21000) == expected
            assert ext.total(ext.ranges_of(ext.concat(list(disk.extents())))) == MIB
    finally:
        Tool("losetup")("--detach", device)
