"""Where the bytes of a disk lie."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.image.open import open_disk
from cowherd.image.reading import Reading, open_reading
from cowherd.ops.create import create
from cowherd.ops.map import MapEntry, entries

K, M = 1 << 10, 1 << 20


def qemu_map(qemu_img, path, *more) -> list[tuple]:
    keys = ("start", "length", "depth", "present", "zero", "data", "compressed")
    found = json.loads(qemu_img("map", "--output=json", *more, path))
    return [(*(one[key] for key in keys), one.get("offset")) for one in found]


def our_map(path, start=0, length=None) -> list[tuple]:
    with open_reading(path) as plain, open_disk(path) as disk:
        found = [tuple(entry) for entry in entries(plain, start, length)]
        assert [tuple(entry) for entry in entries(Reading.of(disk), start, length)] == found
    return found


def test_an_empty_image_is_one_entry_of_nothing(tmp_path):
    create(tmp_path / "disk.qcow2", 3 * M)
    expected = MapEntry(0, 3 * M, 0, present=False, zero=True, data=False, compressed=False, offset=None)
    assert our_map(tmp_path / "disk.qcow2") == [tuple(expected)]


def test_a_hole_of_a_raw_image_is_present_and_zero(tmp_path):
    create(tmp_path / "disk.raw", M, format="raw")
    assert our_map(tmp_path / "disk.raw") == [(0, M, 0, True, True, False, False, 0)]


def test_a_base_too_short_is_said_by_the_overlay(tmp_path, qemu_img):
    create(tmp_path / "base.qcow2", M)
    create(tmp_path / "overlay.qcow2", 3 * M, backing="base.qcow2", backing_format="qcow2")
    found = our_map(tmp_path / "overlay.qcow2")
    assert [(start, length, depth) for start, length, depth, *_ in found] == [(0, M, 1), (M, 2 * M, 0)]
    assert found == qemu_map(qemu_img, tmp_path / "overlay.qcow2")


def test_a_written_cluster_of_a_short_base_ends_with_it(tmp_path, qemu_img):
    create(tmp_path / "base.qcow2", 100 * K)
    create(tmp_path / "overlay.qcow2", M, backing="base.qcow2", backing_format="qcow2")
    with open_disk(tmp_path / "base.qcow2", writable=True) as disk:
        disk.write(0, b"x" * (100 * K))
    assert our_map(tmp_path / "overlay.qcow2") == qemu_map(qemu_img, tmp_path / "overlay.qcow2")


def test_preallocated_metadata_is_recognised_and_split_at_holes(tmp_path, qemu_img):
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", path, "8M")
    with open_disk(path, writable=True) as disk:
        disk.write(M, b"x" * (100 * K))
    with open_disk(path) as disk:
        assert disk.layers[0].metadata_preallocated()
    found = our_map(path)
    assert found == qemu_map(qemu_img, path)
    assert {(zero, data) for *_, zero, data, _, _ in found} == {(True, True), (False, True)}


def test_ordinary_images_are_not_taken_for_preallocated(tmp_path):
    create(tmp_path / "disk.qcow2", M)
    with open_disk(tmp_path / "disk.qcow2", writable=True) as disk:
        disk.write(0, b"x" * M)
        disk.flush()
        assert not disk.layers[0].metadata_preallocated()


@pytest.fixture(scope="module")
def patchwork(tmp_path_factory):
    """An overlay of subclusters on small clusters, both written here and there."""
    folder = tmp_path_factory.mktemp("patchwork")
    create(folder / "base.qcow2", 3 * M, options={"cluster_size": "512"})
    create(folder / "overlay.qcow2", 4 * M, options={"extended_l2": "on"}, backing="base.qcow2", backing_format="qcow2")
    for name in ("base.qcow2", "overlay.qcow2"):
        with open_disk(folder / name, writable=True) as disk:
            for index in range(1, 12):
                disk.write(index * 210 * K, b"x" * (index * 3 * K))
                disk.zero(index * 230 * K, index * 2 * K)
    return folder / "overlay.qcow2"


@given(st.integers(0, 4 * M), st.integers(0, 4 * M))
def test_a_part_is_mapped_as_the_whole_is(patchwork, start, end):
    start, end = sorted((start, end))
    whole = our_map(patchwork)
    expected = [
        (max(at, start), min(at + length, end) - max(at, start), *more[:-1], more[-1] and more[-1] + max(0, start - at))
        for at, length, *more in whole
        if max(at, start) < min(at + length, end)
    ]
    assert our_map(patchwork, start, end - start) == expected


def test_the_patchwork_is_mapped_as_by_qemu(patchwork, qemu_img):
    assert our_map(patchwork) == qemu_map(qemu_img, patchwork)
