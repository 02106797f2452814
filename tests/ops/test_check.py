"""Checking an image file by name: formats, locks, errors. What a check finds is tested with the format."""

from __future__ import annotations

from pathlib import Path

import pytest

from cowherd.errors import CowherdError, HostFileError, ImageFormatError, ImageInUse
from cowherd.ops.check import CheckNotSupported, check
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import READ, WRITE
from tests.formats.qcow2.damaging import COPIED, Damager, checked
from tests.images import Features, changed_by_cowherd, create_with_cowherd, workload
from tests.qemu import Tool


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = create_with_cowherd(tmp_path / "image.qcow2", Features(), 16 << 20)
    changed_by_cowherd(path, workload(1, Features(), 16 << 20, 6, ("write",)))
    return path


def test_a_sound_image_has_nothing_to_report(image: Path):
    report = check(image)
    assert (report.corruptions, report.leaks, report.check_errors, report.messages) == (0, 0, 0, ())
    assert report.total_clusters == 256
    assert report.allocated_clusters
    assert report == check(str(image), format="qcow2") == checked(image)


def test_a_check_changes_nothing(image: Path):
    damager = Damager(image)
    damager.put(damager.l1(), damager.word(damager.l1()) & ~COPIED)
    before = image.read_bytes(), image.stat().st_mtime_ns
    assert check(image).corruptions
    assert (image.read_bytes(), image.stat().st_mtime_ns) == before


def test_the_backing_file_is_not_opened(tmp_path: Path):
    base = create_with_cowherd(tmp_path / "base.qcow2", Features(), 1 << 20)
    path = create_with_cowherd(tmp_path / "overlay.qcow2", Features(), 1 << 20, backing=base)
    base.unlink()
    assert check(path).corruptions == 0


@pytest.mark.parametrize("format", [None, "raw"])
def test_raw_has_nothing_to_check(tmp_path: Path, format: str | None):
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(1024))
    with pytest.raises(CheckNotSupported, match="This image format does not support checks") as caught:
        check(path, format=format)
    assert (caught.value.path, caught.value.format) == (path, "raw")
    assert isinstance(caught.value, CowherdError)


def test_the_named_format_counts_and_not_the_content(tmp_path: Path, image: Path):
    with pytest.raises(CheckNotSupported):
        check(image, format="raw")
    (tmp_path / "plain").write_bytes(bytes(1024))
    with pytest.raises(ImageFormatError, match="not in qcow2 format"):
        check(tmp_path / "plain", format="qcow2")


def test_another_format_is_named(tmp_path: Path):
    path = tmp_path / "disk.vmdk"
    path.write_bytes(b"KDMV" + bytes(1020))
    with pytest.raises(CheckNotSupported, match="vmdk"):
        check(path)


def test_a_missing_file_is_a_host_error(tmp_path: Path):
    with pytest.raises(HostFileError, match="No such file"):
        check(tmp_path / "nothing")


def test_an_image_that_is_written_to_is_only_checked_by_force(image: Path):
    with HostFile.open(image, writable=True, lock=WRITE):
        with pytest.raises(ImageInUse):
            check(image)
        assert check(image, force_share=True).corruptions == 0


def test_readers_do_not_keep_each_other_out(image: Path):
    with HostFile.open(image, lock=READ):
        assert check(image).corruptions == 0


@pytest.mark.qemu
def test_qemu_img_says_the_same_of_a_raw_image(tmp_path: Path, qemu_img: Tool):
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(1024))
    done = qemu_img.run("check", "-f", "raw", path)
    assert done.returncode == 63
    assert "This image format does not support checks" in done.stderr
