"""Tables that were zeroed lose all content, although no count is too low."""

from __future__ import annotations

import struct

import pytest

from cowherd import inspect
from tests.herd.qemu_herd import noise

MIB = 1 << 20


@pytest.fixture
def image(tmp_path, qemu_img):
    (tmp_path / "disk.raw").write_bytes(noise(MIB))
    path = tmp_path / "image.qcow2"
    qemu_img("convert", "-f", "raw", "-O", "qcow2", tmp_path / "disk.raw", path)
    return path


def l1_of(data: bytes) -> int:
    return struct.unpack_from(">Q", data, 40)[0]


def l2_of(data: bytes) -> int:
    return struct.unpack_from(">Q", data, l1_of(data))[0] & 0x00FFFFFFFFFFFE00


@pytest.mark.parametrize("table", [l1_of, l2_of])
def test_an_image_whose_only_table_was_zeroed_is_refused(image, table):
    assert inspect(image).safe
    data = bytearray(image.read_bytes())
    data[table(data) : table(data) + 65536] = bytes(65536)
    image.write_bytes(data)
    found = inspect(image)
    assert not found.safe
    assert [check.name for check in found.refused] == ["refcounts"]
    assert "all content is lost" in found.refused[0].detail


def test_some_leaked_clusters_are_noted_and_no_more(image):
    data = bytearray(image.read_bytes())
    entry = l2_of(data)
    data[entry : entry + 8] = bytes(8)
    image.write_bytes(data)
    assert inspect(image).safe


def test_an_empty_image_is_accepted(tmp_path, qemu_img):
    qemu_img("create", "-f", "qcow2", tmp_path / "empty.qcow2", "64M")
    assert inspect(tmp_path / "empty.qcow2").safe
