"""Another virtual size: what is gained reads as zeros, what is lost is given back, and the tables move as they must."""

from __future__ import annotations

from pathlib import Path

import pytest

from cowherd.errors import InvalidRequest
from cowherd.formats.qcow2.header import read_header, write_header
from cowherd.formats.qcow2.image import Qcow2
from cowherd.image.disk import Disk
from cowherd.image.open import open_disk
from cowherd.storage.hostfile import HostFile
from tests.images import KIB, MIB, Features, assert_sound, create_with_cowherd

CLUSTER = 64 * KIB
SMALL = Features(512)


def qcow2(disk: Disk) -> Qcow2:
    layer = disk.layers[0]
    assert isinstance(layer, Qcow2)
    return layer


def reopened(path: Path) -> Disk:
    return open_disk(path, format="qcow2", writable=True)


def test_the_new_size_is_in_the_file_on_return(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image.qcow2", SMALL, MIB)
    with reopened(path) as disk:
        disk.resize(5 * MIB)
        with HostFile.open(path, lock=None) as file:
            assert read_header(file).size == 5 * MIB


def test_a_larger_l1_table_maps_what_the_smaller_one_did(tmp_path: Path, qemu_img):
    path = create_with_cowherd(tmp_path / "image.qcow2", SMALL, MIB)
    with reopened(path) as disk:
        disk.write(0, b"x" * MIB)
        before = qcow2(disk).header
        disk.resize(20 * MIB)
        after = qcow2(disk).header
        assert after.l1_size > before.l1_size
        assert after.l1_table_offset != before.l1_table_offset
        assert disk.read(0, 2 * MIB) == b"x" * MIB + bytes(MIB)
    assert_sound(path)


def test_growing_within_the_l1_table_leaves_it_where_it_is(tmp_path: Path):
    with reopened(create_with_cowherd(tmp_path / "image.qcow2", Features(), MIB)) as disk:
        before = qcow2(disk).header
        disk.resize(100 * MIB)
        assert (qcow2(disk).header.l1_table_offset, qcow2(disk).header.l1_size) == (before.l1_table_offset, before.l1_size)


def test_an_empty_disk_grows(tmp_path: Path, qemu_img):
    path = create_with_cowherd(tmp_path / "image.qcow2", Features(), 0)
    with reopened(path) as disk:
        disk.resize(MIB)
        disk.write(0, b"x" * MIB)
    assert_sound(path)


def test_shrinking_gives_clusters_and_tables_back(tmp_path: Path, qemu_img):
    path = create_with_cowherd(tmp_path / "image.qcow2", SMALL, 2 * MIB)
    with reopened(path) as disk:
        disk.write(0, b"x" * 2 * MIB)
        disk.flush()
        before = qcow2(disk).file.allocated_bytes()
        disk.resize(100 * KIB)
        assert qcow2(disk).file.allocated_bytes() < before - MIB
    assert_sound(path)


def test_what_was_cut_off_does_not_come_back(tmp_path: Path):
    with reopened(create_with_cowherd(tmp_path / "image.qcow2", Features(), MIB)) as disk:
        disk.write(0, b"x" * MIB)
        disk.resize(CLUSTER + 512)
        disk.resize(MIB)
        assert disk.read(0, MIB) == b"x" * (CLUSTER + 512) + bytes(MIB - CLUSTER - 512)


def test_what_an_interrupted_shrink_left_behind_does_not_come_back(tmp_path: Path, qemu_img):
    # The header has the smaller size, but nothing was given back yet.
    path = create_with_cowherd(tmp_path / "image.qcow2", SMALL, MIB)
    with reopened(path) as disk:
        disk.write(0, b"x" * MIB)
    with HostFile.open(path, writable=True) as file:
        header = read_header(file)
        write_header(file, header._replace(size=100 * KIB))
    with reopened(path) as disk:
        disk.resize(MIB)
        assert disk.read(0, MIB) == b"x" * 100 * KIB + bytes(MIB - 100 * KIB)
    assert_sound(path)


@pytest.mark.parametrize("version", [2, 3])
def test_a_larger_base_does_not_show_in_what_is_gained(version: int, tmp_path: Path):
    base = create_with_cowherd(tmp_path / "base.qcow2", Features(), MIB)
    with reopened(base) as disk:
        disk.write(0, b"b" * MIB)
    overlay = create_with_cowherd(tmp_path / "overlay.qcow2", Features(version=version), 100 * KIB, backing=base)
    with reopened(overlay) as disk:
        disk.resize(2 * MIB)
        assert disk.read(0, 2 * MIB) == b"b" * 100 * KIB + bytes(2 * MIB - 100 * KIB)


def test_what_the_l1_table_may_not_map_is_refused(tmp_path: Path):
    with reopened(create_with_cowherd(tmp_path / "image.qcow2", SMALL, MIB)) as disk:
        with pytest.raises(InvalidRequest, match="L1 table would exceed 32 MiB"):
            disk.resize(1 << 40)
        assert disk.size == MIB


def test_half_a_sector_is_refused(tmp_path: Path):
    with reopened(create_with_cowherd(tmp_path / "image.qcow2", Features(), MIB)) as disk:
        with pytest.raises(InvalidRequest, match="multiple of 512"):
            disk.resize(MIB + 100)
        assert disk.size == MIB


def test_shrinking_makes_the_file_shorter(tmp_path: Path, qemu_img):
    path = create_with_cowherd(tmp_path / "image.qcow2", Features(), 8 * MIB)
    with reopened(path) as disk:
        disk.write(0, b"x" * 8 * MIB)
        disk.flush()
        before = path.stat().st_size
        disk.resize(MIB)
    assert path.stat().st_size <= before - 6 * MIB
    assert_sound(path)


def test_emptying_an_image_makes_the_file_shorter(tmp_path: Path, qemu_img):
    path = create_with_cowherd(tmp_path / "image.qcow2", Features(), 8 * MIB)
    with reopened(path) as disk:
        empty = path.stat().st_size
        disk.write(0, b"x" * 8 * MIB)
        qcow2(disk).deallocate_all()
        assert disk.read(0, 8 * MIB) == bytes(8 * MIB)
    assert path.stat().st_size <= empty + CLUSTER
    assert_sound(path)


def places_written(monkeypatch: pytest.MonkeyPatch) -> list[int | str]:
    """Fills with the file offset of each write, and "flush" for each flush, from now on."""
    log: list[int | str] = []
    write = HostFile.pwritev
    monkeypatch.setattr(HostFile, "pwritev", lambda file, offset, data: (log.append(offset), write(file, offset, data))[1])
    monkeypatch.setattr(HostFile, "flush", lambda file, **_: log.append("flush"))
    return log


def test_a_header_names_a_larger_size_only_when_all_that_hides_the_base_is_durable(tmp_path: Path, monkeypatch):
    base = create_with_cowherd(tmp_path / "base.qcow2", Features(), 4 * MIB)
    overlay = create_with_cowherd(tmp_path / "overlay.qcow2", Features(), MIB, backing=base)
    with reopened(overlay) as disk:
        log = places_written(monkeypatch)
        disk.resize(3 * MIB)
        last_header = len(log) - 1 - log[::-1].index(0)
        others = [at for at, place in enumerate(log) if place != "flush" and int(place) >= CLUSTER]
        assert others
        assert max(others) < last_header
        assert "flush" in log[max(others) : last_header]


def test_a_header_names_a_smaller_size_before_anything_behind_it_is_given_back(tmp_path: Path, monkeypatch):
    path = create_with_cowherd(tmp_path / "image.qcow2", Features(), 4 * MIB)
    with reopened(path) as disk:
        disk.write(3 * MIB, b"x" * MIB)
        disk.flush()
        log = places_written(monkeypatch)
        disk.resize(MIB)
        header = log.index(0)
        others = [at for at, place in enumerate(log) if place != "flush" and int(place) >= CLUSTER]
        assert others
        assert min(others) > header
        assert "flush" in log[header : min(others)]


@pytest.mark.parametrize(
    ("old", "new"), [(MIB, 4 * MIB), (MIB + 512, 3 * MIB - 512), (64 * KIB - 512, 9 * MIB), (3 * MIB, 5 * MIB)]
)
@pytest.mark.parametrize("features", [Features(), Features(512), Features(version=2), Features(extended_l2=True)], ids=str)
def test_below_a_larger_base_all_that_is_gained_reads_as_zeros(features: Features, old: int, new: int, tmp_path: Path, qemu_img):
    base = create_with_cowherd(tmp_path / "base.qcow2", Features(), 6 * MIB)
    with reopened(base) as disk:
        disk.write(0, b"b" * 6 * MIB)
    overlay = create_with_cowherd(tmp_path / "overlay.qcow2", features, old, backing=base)
    with reopened(overlay) as disk:
        disk.resize(new)
        assert disk.read(0, new) == b"b" * old + bytes(new - old)
    qemu_img("convert", "-f", "qcow2", "-O", "raw", overlay, tmp_path / "raw")
    assert (tmp_path / "raw").read_bytes() == b"b" * old + bytes(new - old)
    assert_sound(overlay)
