"""Changing a header alone: the same bytes as a writer of the whole image leaves, or nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cowherd.errors import HostFileError, ImageFormatError, ImageInUse
from cowherd.formats.qcow2 import layout, plain_header
from cowherd.formats.qcow2.header import Header, read_header
from cowherd.formats.reference import BackingReference
from cowherd.image.header import change_header
from cowherd.image.open import open_disk
from cowherd.storage.hostfile import HostFile
from tests.formats.qcow2.damaging import Damager
from tests.images import KIB, MIB, TELLING, Features, changed_by_cowherd, create_with_cowherd, workload
from tests.qemu import Tool

REFERENCE = BackingReference("some/base.raw", "raw")


def renamed(header: Header) -> Header:
    return header.with_backing(REFERENCE)


@pytest.mark.parametrize("features", TELLING, ids=str)
def test_it_leaves_the_bytes_that_a_writer_leaves(tmp_path: Path, features: Features):
    path = create_with_cowherd(tmp_path / "image", features, features.odd_size)
    changed_by_cowherd(path, workload(1, features, features.odd_size, 6))
    shutil.copy(path, tmp_path / "copy")
    assert change_header(path, renamed)
    with open_disk(tmp_path / "copy", writable=True, backing=False) as disk:
        disk.set_backing(REFERENCE)
    assert path.read_bytes() == (tmp_path / "copy").read_bytes()


def header_of(path: Path) -> Header:
    with HostFile.open(path, lock=None) as file:
        return read_header(file)


def put(path: Path, **fields: int) -> None:
    """Writes fields of the header as they are."""
    offsets = {"incompatible": 72, "autoclear": 88}
    for name, value in fields.items():
        Damager(path).put(offsets[name], value)


UNUSUAL = {
    "dirty": {"incompatible": layout.INCOMPATIBLE_DIRTY},
    "corrupt": {"incompatible": layout.INCOMPATIBLE_CORRUPT},
    "unknown autoclear": {"autoclear": 1 << 7},
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_images_that_a_writer_must_mend_first_are_left_alone(tmp_path: Path, name: str):
    path = create_with_cowherd(tmp_path / "image", Features(), MIB)
    put(path, **UNUSUAL[name])
    before = path.read_bytes()
    assert not change_header(path, renamed)
    assert path.read_bytes() == before


def test_images_with_bitmaps_are_left_alone(tmp_path: Path, qemu_img: Tool):
    path = create_with_cowherd(tmp_path / "image", Features(), MIB)
    qemu_img("bitmap", "--add", path, "b")
    assert not change_header(path, renamed)


def test_raw_images_are_left_alone(tmp_path: Path):
    (tmp_path / "image").write_bytes(b"x" * 4096)
    assert not change_header(tmp_path / "image", renamed, format="raw")


def test_a_header_without_room_is_left_alone(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image", Features(512), MIB)
    before = path.read_bytes()
    assert not change_header(path, lambda header: header.with_backing(BackingReference("n" * 500, "raw")))
    assert path.read_bytes() == before


def test_a_crooked_l1_table_is_left_to_who_says_what_is_wrong(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image", Features(), MIB)
    damager = Damager(path)
    damager.put(damager.l1(0), 512)
    assert not change_header(path, renamed)
    with pytest.raises(ImageFormatError, match="L1 entry 0"):
        open_disk(path, writable=True)


@pytest.mark.parametrize("limit", ["_MOST_L1_ENTRIES", "_MOST_L2_BYTES"])
def test_large_l1_tables_are_left_to_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str):
    path = create_with_cowherd(tmp_path / "image", Features(4 * KIB), 64 * MIB)
    monkeypatch.setattr(plain_header, limit, header_of(path).l1_size - 1)
    assert not change_header(path, renamed)


def test_a_reader_elsewhere_excludes_it(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image", Features(), MIB)
    with open_disk(path), pytest.raises(ImageInUse):
        change_header(path, renamed)


def test_a_writer_elsewhere_is_excluded_while_it_is_changed(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image", Features(), MIB)

    def looking(header: Header) -> Header:
        with pytest.raises(ImageInUse):
            open_disk(path, writable=True)
        return renamed(header)

    assert change_header(path, looking)
    assert header_of(path).backing == REFERENCE


def test_a_missing_file_is_said(tmp_path: Path):
    with pytest.raises(HostFileError, match="nothing"):
        change_header(tmp_path / "nothing", renamed)
