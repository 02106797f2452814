"""Every sound image is let through: all features, written by cowherd and by QEMU, with what a policy decides about allowed."""

from __future__ import annotations

import pytest

import cowherd
from cowherd.image.open import open_disk
from tests.images import MATRIX, TELLING, Features, create_with_cowherd, create_with_qemu, run_in_cowherd, run_in_qemu, workload


@pytest.mark.parametrize("features", MATRIX, ids=str)
def test_every_feature_is_let_through_as_cowherd_writes_it(tmp_path, features: Features):
    image = create_with_cowherd(tmp_path / "image.qcow2", features, features.odd_size)
    with open_disk(image, format="qcow2", writable=True) as disk:
        run_in_cowherd(disk, workload(5, features, features.odd_size))
    found = cowherd.inspect(image, format="qcow2")
    assert (found.refused, found.complete) == ((), True)
    with image.open("rb") as stream:
        assert cowherd.inspect(stream, format="qcow2").refused == ()


@pytest.mark.qemu("qemu-io")
@pytest.mark.parametrize("features", TELLING, ids=str)
def test_every_feature_is_let_through_as_qemu_writes_it(tmp_path, features: Features):
    image = create_with_qemu(tmp_path / "image.qcow2", features, features.odd_size)
    run_in_qemu(image, workload(6, features, features.odd_size), features)
    assert cowherd.inspect(image, format="qcow2").refused == ()


@pytest.mark.parametrize("preallocation", ["metadata", "falloc", "full"])
def test_a_preallocated_image_is_let_through(tmp_path, qemu_img, preallocation):
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"preallocation={preallocation}", tmp_path / "image", "9M")
    assert cowherd.inspect(tmp_path / "image", format="qcow2").refused == ()


def test_snapshots_and_bitmaps_of_qemu_are_let_through_where_they_are_allowed(tmp_path, qemu_img, qemu_io):
    image = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", image, "9M")
    qemu_io("-f", "qcow2", "-c", "write 0 1M", image)
    qemu_img("snapshot", "-c", "one", image)
    qemu_io("-f", "qcow2", "-c", "write 64k 1M", image)
    qemu_img("bitmap", "--add", "-f", "qcow2", image, "changes")
    assert [check.name for check in cowherd.inspect(image).refused] == ["snapshots"]
    assert [check.name for check in cowherd.inspect(image, allow=["snapshots"]).refused] == ["bitmaps"]
    assert cowherd.inspect(image, allow=["snapshots", "bitmaps"]).refused == ()
    assert cowherd.inspect(image, policy="glance").refused == ()


def test_an_overlay_is_let_through_only_where_backing_files_are_trusted(tmp_path, qemu_img):
    qemu_img("create", "-q", "-f", "qcow2", tmp_path / "base", "9M")
    qemu_img("create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", tmp_path / "overlay")
    refused = {
        policy: cowherd.inspect(tmp_path / "overlay", policy=policy).refused for policy in ("untrusted", "glance", "trusted")
    }
    assert [check.name for check in refused["untrusted"]] == ["backing-file"]
    assert [check.name for check in refused["glance"]] == ["backing-file"]
    assert refused["trusted"] == ()


def test_glance_does_not_take_extended_l2(tmp_path):
    cowherd.create(tmp_path / "image", 1 << 20, options={"extended_l2": "on"})
    assert [check.name for check in cowherd.inspect(tmp_path / "image", policy="glance").refused] == ["extended-l2"]
    assert cowherd.inspect(tmp_path / "image").safe
