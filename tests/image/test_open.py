"""Opening chains: whole ones, broken ones, hostile ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cowherd.errors import BackingFileError, HostFileError, ImageFormatError, ImageInUse, UnsupportedFeature
from cowherd.formats.reference import BackingReference
from cowherd.image import chain
from cowherd.image.open import open_disk, open_layer
from tests.images import KIB, MIB, Features, create_with_cowherd
from tests.qemu import Tool


def image(path: Path, backing: str | None = None, backing_format: str | None = "qcow2", size: int = MIB) -> Path:
    create_with_cowherd(path, Features(), size)
    if backing is not None:
        with open_disk(path, format="qcow2", writable=True, backing=False) as disk:
            disk.set_backing(BackingReference(backing, backing_format))
    return path


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_the_whole_chain_is_opened(tmp_path: Path):
    for name, backing in (("a", None), ("b", "a"), ("c", "b")):
        image(tmp_path / name, backing)
    with open_disk(tmp_path / "c", format="qcow2") as disk:
        assert [layer.file.path.name for layer in disk.layers] == ["c", "b", "a"]
        assert disk.backing_size == MIB
    with open_disk(tmp_path / "c", format="qcow2", backing=False) as disk:
        assert len(disk.layers) == 1
        assert disk.backing_size == 0
    with open_layer(tmp_path / "c") as layer:
        assert layer.backing == BackingReference("b", "qcow2")


def test_the_format_is_guessed_where_none_is_recorded(tmp_path: Path):
    image(tmp_path / "base")
    (tmp_path / "flat").write_bytes(b"f" * MIB)
    image(tmp_path / "over", "base", None)
    image(tmp_path / "flatter", "flat", None)
    for name, formats in (("over", ["qcow2", "qcow2"]), ("flatter", ["qcow2", "raw"])):
        with open_disk(tmp_path / name) as disk:
            assert [layer.format for layer in disk.layers] == formats


def test_a_recorded_format_is_believed(tmp_path: Path):
    """A guest that writes a qcow2 header into its raw disk does not make the host follow it."""
    image(tmp_path / "base", "/etc/passwd", "raw")
    image(tmp_path / "over", "base", "raw")
    with open_disk(tmp_path / "over", format="qcow2") as disk:
        assert [layer.format for layer in disk.layers] == ["qcow2", "raw"]
        assert disk.read(0, 4) == b"QFI\xfb"


@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize("length", [1, 2, 5])
def test_loops_are_found(tmp_path: Path, length: int, writable: bool):
    for number in range(length):
        image(tmp_path / str(number), str((number + 1) % length))
    before = descriptors()
    with pytest.raises(BackingFileError, match="loop") as caught:
        open_disk(tmp_path / "0", format="qcow2", writable=writable)
    assert caught.value.overlay.name == str(length - 1)
    assert descriptors() == before


def test_a_loop_through_another_name_is_found(tmp_path: Path):
    image(tmp_path / "a", "b")
    os.link(tmp_path / "a", tmp_path / "b")
    with pytest.raises(BackingFileError, match="loop"):
        open_disk(tmp_path / "a", format="qcow2")


def test_a_chain_may_be_long_but_not_endless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    image(tmp_path / "0")
    for number in range(1, 21):
        image(tmp_path / str(number), str(number - 1))
    with open_disk(tmp_path / "20", format="qcow2") as disk:
        assert len(disk.layers) == 21
    monkeypatch.setattr(chain, "MAX_CHAIN", 20)
    before = descriptors()
    with pytest.raises(BackingFileError, match="longer than 20"):
        open_disk(tmp_path / "20", format="qcow2")
    assert descriptors() == before


def missing(path: Path) -> None:
    pass


def directory(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def circle(path: Path) -> None:
    path.symlink_to(path.name)


def rubbish(path: Path) -> None:
    path.write_bytes(b"rubbish" * 100)


def truncated(path: Path) -> None:
    image(path)
    os.truncate(path, 60)


@pytest.mark.parametrize("make", [missing, directory, pipe, device, dangling, circle, rubbish, truncated])
def test_a_backing_file_that_is_none_is_named(tmp_path: Path, make):
    make(tmp_path / "base")
    image(tmp_path / "over", "base")
    before = descriptors()
    with pytest.raises(BackingFileError) as caught:
        open_disk(tmp_path / "over", format="qcow2")
    assert (caught.value.overlay, caught.value.backing) == (tmp_path / "over", "base")
    assert descriptors() == before
    with open_disk(tmp_path / "over", format="qcow2", backing=False) as disk:
        assert disk.size == MIB


@pytest.mark.parametrize("make", [missing, directory, pipe, device, dangling, circle])
def test_what_is_no_file_is_not_opened_as_an_image(tmp_path: Path, make):
    make(tmp_path / "image")
    for writable in (False, True):
        with pytest.raises(HostFileError):
            open_disk(tmp_path / "image", format="raw", writable=writable)


def test_rubbish_is_no_qcow2_image(tmp_path: Path):
    rubbish(tmp_path / "image")
    with pytest.raises(ImageFormatError):
        open_disk(tmp_path / "image", format="qcow2")


@pytest.mark.parametrize("format", ["vmdk", "luks", "QCOW2", ""])
def test_other_formats_are_refused_by_name(tmp_path: Path, format: str):
    image(tmp_path / "base")
    image(tmp_path / "over", "base", format)
    with pytest.raises(UnsupportedFeature, match=f"'{format}'"):
        open_disk(tmp_path / "base", format=format)
    if format:
        with pytest.raises(BackingFileError, match=f"'{format}'"):
            open_disk(tmp_path / "over", format="qcow2")


def test_an_empty_file_is_an_empty_raw_disk(tmp_path: Path):
    (tmp_path / "empty").write_bytes(b"")
    with open_disk(tmp_path / "empty") as disk:
        assert (disk.format, disk.size, disk.read(0, 0)) == ("raw", 0, b"")
        assert list(disk.extents()) == []


def test_an_image_being_written_is_not_opened(tmp_path: Path):
    image(tmp_path / "base")
    image(tmp_path / "over", "base")
    with open_disk(tmp_path / "base", format="qcow2", writable=True):
        for name in ("base", "over"):
            before = descriptors()
            with pytest.raises(ImageInUse):
                open_disk(tmp_path / name, format="qcow2")
            assert descriptors() == before
    with open_disk(tmp_path / "over", format="qcow2", writable=True):
        with (
            open_disk(tmp_path / "base", format="qcow2"),
            open_disk(tmp_path / "over", format="qcow2", force_share=True) as shared,
        ):
            assert shared.size == MIB
        with pytest.raises(ImageInUse):
            open_disk(tmp_path / "base", format="qcow2", writable=True)


def test_the_backing_files_stay_as_they_are(tmp_path: Path):
    image(tmp_path / "base")
    image(tmp_path / "over", "base")
    before = (tmp_path / "base").read_bytes(), os.stat(tmp_path / "base").st_mtime_ns
    with open_disk(tmp_path / "over", format="qcow2", writable=True) as disk:
        assert not disk.layers[1].file.writable
        disk.write(100, b"x")
    assert ((tmp_path / "base").read_bytes(), os.stat(tmp_path / "base").st_mtime_ns) == before


def test_a_name_of_no_length_is_no_backing_file_as_in_qemu(tmp_path: Path, qemu_img: Tool):
    image(tmp_path / "over", "base")
    with (tmp_path / "over").open("r+b") as file:
        file.seek(16)
        file.write(bytes(4))
    qemu_img("convert", "-f", "qcow2", "-O", "raw", tmp_path / "over", tmp_path / "raw")
    with open_disk(tmp_path / "over", format="qcow2") as disk:
        assert len(disk.layers) == 1
        assert disk.read(0, 64 * KIB) == bytes(64 * KIB)


def test_a_size_that_is_not_whole_sectors_counts_the_whole_ones_as_in_qemu(tmp_path: Path, qemu_img: Tool):
    image(tmp_path / "image")
    with (tmp_path / "image").open("r+b") as file:
        file.seek(24)
        file.write((MIB - 3).to_bytes(8, "big"))
    qemu_img("convert", "-f", "qcow2", "-O", "raw", tmp_path / "image", tmp_path / "raw")
    with open_disk(tmp_path / "image", format="qcow2", writable=True) as disk:
        assert disk.size == (tmp_path / "raw").stat().st_size == MIB - 512
        disk.write(disk.size - 512, b"x" * 512)
    qemu_img("check", "-f", "qcow2", tmp_path / "image")
