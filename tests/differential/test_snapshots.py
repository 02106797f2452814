"""Internal snapshots, made by QEMU, outlive whatever cowherd does to the active state."""

from __future__ import annotations

from pathlib import Path

import pytest

from cowherd.errors import UnsupportedFeature
from cowherd.formats.qcow2.header import read_header
from cowherd.formats.qcow2.snapshots import Snapshot, read_snapshots
from cowherd.image.open import open_disk
from cowherd.storage.hostfile import HostFile
from tests import qemu
from tests.images import (
    KIB,
    KINDS,
    TELLING,
    Features,
    Model,
    Request,
    assert_sound,
    create_with_cowherd,
    create_with_qemu,
    run_in_cowherd,
    sparse_copy,
    workload,
)

pytestmark = pytest.mark.qemu("qemu-io")

WITH_SNAPSHOTS = [features for features in TELLING if features.refcount_bits > 1] + [Features(512, refcount_bits=8)]


def _snapshots(image: Path) -> tuple[Snapshot, ...]:
    with HostFile.open(image) as file:
        return read_snapshots(file, read_header(file))


def _assert_snapshot(image: Path, name: str, model: Model, scratch: Path) -> None:
    """Checks a snapshot's content without applying it, and applied to a copy, both by QEMU."""
    qemu_img = qemu.Tool("qemu-img")
    assert [found.disk_size for found in _snapshots(image) if found.name == name] == [model.size]
    with open_disk(image) as disk:
        active_size = disk.size
    if model.size == active_size:  # QEMU reads a snapshot that it has not applied with the active state's size
        content = scratch / "content.raw"
        qemu_img("convert", "-f", "qcow2", "-l", f"snapshot.name={name}", "-O", "raw", image, content)
        qemu_img("compare", "-f", "raw", "-F", "raw", content, model.path)
    copy = sparse_copy(image, scratch / "copy.qcow2")
    qemu_img("snapshot", "-a", name, copy)
    assert_sound(copy)
    qemu_img("compare", "-f", "qcow2", "-F", "raw", copy, model.path)


@pytest.mark.parametrize("features", WITH_SNAPSHOTS, ids=str)
@pytest.mark.parametrize("kinds", [("write",), ("zero", "unmap"), ("discard",), ("compressed",), KINDS], ids="+".join)
def test_snapshots_keep_their_content(features: Features, kinds: tuple[str, ...], tmp_path: Path, qemu_img: qemu.Tool):
    size = features.odd_size
    image, active = create_with_cowherd(tmp_path / "image.qcow2", features, size), Model(tmp_path / "active.raw", size)
    snapshots: dict[str, Model] = {}
    for seed, name in ((50, "first"), (51, "second"), (52, "")):
        requests = workload(seed, features, size, kinds=kinds if snapshots else KINDS)
        with open_disk(image, writable=True) as disk:
            run_in_cowherd(disk, requests)
        active.apply(requests, cluster_size=features.cluster_size)
        if name:
            qemu_img("snapshot", "-c", name, image)
            snapshots[name] = active.copy(tmp_path / f"{name}.raw")
    assert_sound(image)
    qemu_img("compare", "-f", "qcow2", "-F", "raw", image, active.path)
    for name, model in snapshots.items():
        _assert_snapshot(image, name, model, tmp_path)


@pytest.mark.parametrize("features", [features for features in WITH_SNAPSHOTS if features.version == 3], ids=str)
@pytest.mark.parametrize("factor", [0.3, 3], ids=["shrunk", "grown"])
def test_snapshots_keep_content_and_size_when_the_disk_is_resized(
    features: Features, factor: float, tmp_path: Path, qemu_img: qemu.Tool
):
    size = features.odd_size
    resized = int(size * factor) // 512 * 512
    image, active = create_with_cowherd(tmp_path / "image.qcow2", features, size), Model(tmp_path / "active.raw", size)
    before = workload(53, features, size)
    with open_disk(image, writable=True) as disk:
        run_in_cowherd(disk, before)
    active.apply(before, cluster_size=features.cluster_size)
    qemu_img("snapshot", "-c", "before", image)
    kept = active.copy(tmp_path / "kept.raw")
    after = workload(54, features, resized)
    with open_disk(image, writable=True) as disk:
        disk.resize(resized)
        run_in_cowherd(disk, after)
    active.resize(resized)
    active.apply(after, cluster_size=features.cluster_size)
    assert_sound(image)
    qemu_img("compare", "-f", "qcow2", "-F", "raw", image, active.path)
    _assert_snapshot(image, "before", kept, tmp_path)


@pytest.mark.parametrize("features", WITH_SNAPSHOTS, ids=str)
def test_nothing_is_leaked_once_qemu_deletes_the_snapshot(features: Features, tmp_path: Path, qemu_img: qemu.Tool):
    size = features.odd_size
    image = create_with_cowherd(tmp_path / "image.qcow2", features, size)
    for seed in (55, 56):
        with open_disk(image, writable=True) as disk:
            run_in_cowherd(disk, workload(seed, features, size))
        if seed == 55:
            qemu_img("snapshot", "-c", "before", image)
    qemu_img("snapshot", "-d", "before", image)
    assert_sound(image)


def test_the_disk_is_written_in_place_again_once_the_snapshot_is_deleted(tmp_path: Path, qemu_img: qemu.Tool):
    image = create_with_qemu(tmp_path / "image.qcow2", Features(), 512 * KIB)
    with open_disk(image, writable=True) as disk:
        disk.write(0, b"a" * 512 * KIB)
    qemu_img("snapshot", "-c", "before", image)
    qemu_img("snapshot", "-d", "before", image)
    length = image.stat().st_size
    with open_disk(image, writable=True) as disk:
        disk.write(0, b"b" * 512 * KIB)
    assert image.stat().st_size == length
    assert_sound(image)


def test_a_count_that_would_outgrow_its_width_is_refused(tmp_path: Path, qemu_img: qemu.Tool):
    # With refcounts of two bits a compressed cluster's host cluster holds three of them, and a fourth goes elsewhere.
    features = Features(refcount_bits=2)
    image, model = create_with_cowherd(tmp_path / "image.qcow2", features, 512 * KIB), Model(tmp_path / "m.raw", 512 * KIB)
    requests = [Request("compressed", offset, 64 * KIB, offset % 3) for offset in range(0, 512 * KIB, 64 * KIB)]
    with open_disk(image, writable=True) as disk:
        run_in_cowherd(disk, requests)
    model.apply(requests)
    assert_sound(image)
    qemu_img("compare", "-f", "qcow2", "-F", "raw", image, model.path)


def test_a_version_2_image_with_snapshots_is_not_resized(tmp_path: Path, qemu_img: qemu.Tool):
    image = create_with_qemu(tmp_path / "image.qcow2", Features(version=2), 512 * KIB)
    qemu_img("snapshot", "-c", "before", image)
    with open_disk(image, writable=True) as disk, pytest.raises(UnsupportedFeature, match="snapshots"):
        disk.resize(1024 * KIB)
