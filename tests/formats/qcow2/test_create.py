"""A new image: its layout, and what can't be made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cowherd.errors import ImageFormatError, InvalidRequest
from cowherd.formats.qcow2.create import new_header, refcount_clusters, write_empty
from cowherd.formats.qcow2.header import read_header
from cowherd.formats.qcow2.options import Qcow2Options
from cowherd.formats.reference import BackingReference
from cowherd.storage.hostfile import HostFile
from tests import qemu
from tests.images import KIB, MATRIX, MIB, Features, assert_sound, create_with_cowherd, create_with_qemu


def facts(qemu_img: qemu.Tool, path: Path) -> dict[str, object]:
    """What qemu-img says of an image, without what depends on the file's name and place."""
    found = json.loads(qemu_img("info", "--output=json", "-f", "qcow2", path))
    return {key: value for key, value in found.items() if key not in ("filename", "actual-size", "children", "dirty-flag")}


@pytest.mark.parametrize("features", MATRIX, ids=str)
def test_qemu_sees_the_same_facts_as_in_an_image_of_its_own(features: Features, tmp_path: Path, qemu_img: qemu.Tool):
    ours = create_with_cowherd(tmp_path / "ours.qcow2", features, 3 * MIB + 512)
    theirs = create_with_qemu(tmp_path / "theirs.qcow2", features, 3 * MIB + 512)
    assert facts(qemu_img, ours) == facts(qemu_img, theirs)
    assert_sound(ours)


@pytest.mark.parametrize("size", [0, 512, 1 << 40, 1 << 50])
def test_any_size_is_sound(size: int, tmp_path: Path, qemu_img: qemu.Tool):
    path = create_with_cowherd(tmp_path / "image.qcow2", Features(), size)
    assert_sound(path)
    assert json.loads(qemu_img("info", "--output=json", path))["virtual-size"] == size


@pytest.mark.parametrize(
    "features", [Features(512, refcount_bits=64), Features(512, refcount_bits=1), Features(4 * KIB)], ids=str
)
def test_the_refcounts_of_a_large_l1_table_are_complete(features: Features, tmp_path: Path, qemu_img: qemu.Tool):
    assert_sound(create_with_cowherd(tmp_path / "image.qcow2", features, features.reach * 50_000))


@pytest.mark.parametrize("others", [1, 62, 63, 64, 255, 256, 5000])
@pytest.mark.parametrize("per_block", [64, 256, 4096])
def test_refcount_blocks_count_themselves_and_the_table(others: int, per_block: int):
    table, blocks = refcount_clusters(others, per_block, 512)
    assert blocks * per_block >= others + table + blocks
    assert table * 512 >= blocks * 8
    assert (blocks - 1) * per_block < others + table + blocks


def test_an_unfinished_file_is_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "image.qcow2"
    monkeypatch.setattr(HostFile, "flush", lambda file: (_ for _ in ()).throw(KeyboardInterrupt))
    with HostFile.create(path) as file, pytest.raises(KeyboardInterrupt):
        write_empty(file, new_header(MIB, Qcow2Options()))
    assert path.stat().st_size
    with HostFile.open(path) as file, pytest.raises(ImageFormatError, match="not in qcow2 format"):
        read_header(file)


def test_the_backing_file_is_recorded_as_given(tmp_path: Path):
    with HostFile.create(tmp_path / "image.qcow2") as file:
        write_empty(file, new_header(MIB, Qcow2Options(), BackingReference("../b\udcff.raw", "raw")))
        assert read_header(file).backing == BackingReference("../b\udcff.raw", "raw")


@pytest.mark.parametrize("size", [-512, 1, 513])
def test_a_size_that_is_not_whole_sectors_is_refused(size: int):
    with pytest.raises(InvalidRequest, match="multiple of 512"):
        new_header(size, Qcow2Options())


def test_a_size_that_the_l1_table_may_not_map_is_refused(tmp_path: Path):
    with HostFile.create(tmp_path / "image.qcow2") as file:
        with pytest.raises(InvalidRequest, match="use larger clusters"):
            write_empty(file, new_header(1 << 40, Qcow2Options(cluster_size=512)))
        assert file.size() == 0


def test_a_backing_file_name_that_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path):
    header = new_header(MIB, Qcow2Options(cluster_size=512), BackingReference("b" * 500, "raw"))
    with HostFile.create(tmp_path / "image.qcow2") as file:
        with pytest.raises(InvalidRequest, match="Backing file name too long"):
            write_empty(file, header)
        assert file.size() == 0
