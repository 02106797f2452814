"""QEMU reads what cowherd wrote: the same bytes, tables without an error or a leak, and the same map."""

from __future__ import annotations

from pathlib import Path

import pytest

from cowherd.image.open import open_disk
from tests import qemu
from tests.differential.maps import map_by_cowherd, map_by_qemu
from tests.images import (
    MATRIX,
    MIB,
    TELLING,
    Features,
    Model,
    assert_same_windows,
    assert_sound,
    changed_by_cowherd,
    create_with_cowherd,
    create_with_qemu,
    qemu_content,
    run_in_cowherd,
    run_in_qemu,
    workload,
)

pytestmark = pytest.mark.qemu("qemu-io")


def _assert_qemu_agrees(image: Path, model: Model, features: Features) -> None:
    """Checks `image` with QEMU against `model`, and cowherd's own view of it."""
    assert_sound(image)
    qemu.Tool("qemu-img")("compare", "-f", "qcow2", "-F", "raw", image, model.path)
    with open_disk(image) as disk:
        assert_same_windows(disk, model.path, features.windows(model.size))
        assert map_by_cowherd(disk) == map_by_qemu(image)


@pytest.mark.parametrize("features", MATRIX, ids=str)
def test_qemu_reads_what_cowherd_wrote(features: Features, tmp_path: Path):
    size = features.odd_size
    image, model = create_with_cowherd(tmp_path / "image.qcow2", features, size), Model(tmp_path / "model.raw", size)
    for seed in (30, 31):  # the second time in an image that holds something
        requests = workload(seed, features, size)
        changed_by_cowherd(image, requests)
        model.apply(requests, cluster_size=features.cluster_size)
    _assert_qemu_agrees(image, model, features)


@pytest.mark.parametrize("features", MATRIX, ids=str)
def test_qemu_reads_an_overlay_that_cowherd_wrote(features: Features, tmp_path: Path):
    size = features.odd_size
    base = create_with_qemu(tmp_path / "base.qcow2", features, size - 1024)
    run_in_qemu(base, workload(32, features, size - 1024), features)
    overlay = create_with_cowherd(tmp_path / "overlay.qcow2", features, size, backing=base)
    model = Model(qemu_content(overlay, tmp_path / "model.raw"), size, keep=True)
    requests = workload(33, features, size)
    changed_by_cowherd(overlay, requests)
    # A version 2 image can't hide the bytes of its base.
    model.apply(requests, cluster_size=features.cluster_size, discards=features.version >= 3)
    _assert_qemu_agrees(overlay, model, features)


@pytest.mark.parametrize("features", MATRIX, ids=str)
def test_cowherd_goes_on_where_qemu_stopped(features: Features, tmp_path: Path):
    size = features.odd_size
    image = create_with_qemu(tmp_path / "image.qcow2", features, size)
    run_in_qemu(image, workload(34, features, size), features)
    model = Model(qemu_content(image, tmp_path / "model.raw"), size, keep=True)
    requests = workload(35, features, size)
    changed_by_cowherd(image, requests)
    model.apply(requests, cluster_size=features.cluster_size)
    _assert_qemu_agrees(image, model, features)


@pytest.mark.parametrize("features", TELLING, ids=str)
def test_qemu_goes_on_where_cowherd_stopped(features: Features, tmp_path: Path):
    size = features.odd_size
    image, model = create_with_cowherd(tmp_path / "image.qcow2", features, size), Model(tmp_path / "model.raw", size)
    first, second = workload(36, features, size), workload(37, features, size, kinds=("write", "zero", "unmap"))
    changed_by_cowherd(image, first)
    run_in_qemu(image, second, features)
    model.apply([*first, *second], cluster_size=features.cluster_size)
    _assert_qemu_agrees(image, model, features)


@pytest.mark.parametrize("features", TELLING, ids=str)
@pytest.mark.parametrize("preallocation", ["metadata", "falloc", "full"])
def test_cowherd_writes_to_what_qemu_preallocated(features: Features, preallocation: str, tmp_path: Path, qemu_img: qemu.Tool):
    size = 3 * MIB // features.cluster_size * features.cluster_size + 512
    image, model = tmp_path / "image.qcow2", Model(tmp_path / "model.raw", size)
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"{features.options},preallocation={preallocation}", image, size)
    requests = workload(38, features, size)
    changed_by_cowherd(image, requests)
    model.apply(requests, cluster_size=features.cluster_size)
    _assert_qemu_agrees(image, model, features)


@pytest.mark.parametrize("features", TELLING, ids=str)
def test_cowherd_fills_an_image_and_empties_it(features: Features, tmp_path: Path):
    size = min(features.odd_size, 4 * MIB + 512)
    image, model = create_with_cowherd(tmp_path / "image.qcow2", features, size), Model(tmp_path / "model.raw", size)
    with open_disk(image, writable=True) as disk:
        for offset in range(0, size, 96 * 1024 + 512):
            part = min(96 * 1024 + 512, size - offset)
            disk.write(offset, b"\xa5" * part)
    model.put(0, b"\xa5" * size)
    _assert_qemu_agrees(image, model, features)
    with open_disk(image, writable=True) as disk:
        disk.discard(0, size)
    model.put(0, bytes(size))
    _assert_qemu_agrees(image, model, features)


@pytest.mark.parametrize("features", TELLING, ids=str)
@pytest.mark.parametrize("factor", [0.2, 0.9, 1.1, 5], ids=lambda factor: f"{factor:g} times")
def test_qemu_reads_what_cowherd_resized(features: Features, factor: float, tmp_path: Path):
    size = features.odd_size
    resized = int(size * factor) // 512 * 512
    image, model = create_with_cowherd(tmp_path / "image.qcow2", features, size), Model(tmp_path / "model.raw", size)
    for seed in (40, 41):
        requests = workload(seed, features, model.size)
        with open_disk(image, writable=True) as disk:
            run_in_cowherd(disk, requests)
            disk.resize(resized)
        model.apply(requests, cluster_size=features.cluster_size)
        model.resize(resized)
    _assert_qemu_agrees(image, model, features)


@pytest.mark.parametrize("features", TELLING, ids=str)
@pytest.mark.parametrize("sizes", [(100, 40, 90), (40, 100, 90), (60, 30, 200)], ids=lambda sizes: "-".join(map(str, sizes)))
def test_what_a_resize_gains_reads_as_zeros_whatever_the_base_holds(features: Features, sizes: tuple[int, ...], tmp_path: Path):
    # In KiB and a sector: the base, the overlay, and what it grows to.
    base_size, size, resized = (kib * 1024 + 512 for kib in sizes)
    base = create_with_qemu(tmp_path / "base.qcow2", features, base_size)
    with open_disk(base, writable=True) as disk:
        disk.write(0, b"\xbb" * base_size)
    overlay = create_with_cowherd(tmp_path / "overlay.qcow2", features, size, backing=base)
    with open_disk(overlay, writable=True) as disk:
        disk.resize(resized)
    model = Model(tmp_path / "model.raw", resized)
    model.put(0, b"\xbb" * min(base_size, size))
    _assert_qemu_agrees(overlay, model, features)
