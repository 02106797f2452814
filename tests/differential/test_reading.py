"""cowherd reads what QEMU wrote: the same bytes, and the same map of where they lie."""

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
    Request,
    assert_same_windows,
    create_with_qemu,
    qemu_content,
    run_in_qemu,
    workload,
)

pytestmark = pytest.mark.qemu("qemu-io")


@pytest.mark.parametrize("features", MATRIX, ids=str)
def test_reads_what_qemu_io_wrote(features: Features, tmp_path: Path):
    size = features.odd_size
    image = create_with_qemu(tmp_path / "image.qcow2", features, size)
    run_in_qemu(image, workload(1, features, size), features)
    truth = qemu_content(image, tmp_path / "truth.raw")
    with open_disk(image) as disk:
        assert disk.size == size
        assert_same_windows(disk, truth, features.windows(size))
        assert map_by_cowherd(disk) == map_by_qemu(image)


@pytest.mark.parametrize("features", MATRIX, ids=str)
def test_reads_an_overlay_that_qemu_io_wrote_to(features: Features, tmp_path: Path):
    size = features.odd_size
    base = create_with_qemu(tmp_path / "base.qcow2", features, size)
    run_in_qemu(base, workload(2, features, size), features)
    overlay = create_with_qemu(tmp_path / "overlay.qcow2", features, size, backing=base)
    run_in_qemu(overlay, workload(3, features, size), features)
    truth = qemu_content(overlay, tmp_path / "truth.raw")
    with open_disk(overlay) as disk:
        assert_same_windows(disk, truth, features.windows(size))
        assert map_by_cowherd(disk) == map_by_qemu(overlay)


@pytest.mark.parametrize("features", MATRIX, ids=str)
def test_reads_what_qemu_img_compressed(features: Features, tmp_path: Path, qemu_img: qemu.Tool):
    size = min(features.odd_size, 3 * MIB)
    source = Model(tmp_path / "source.raw", size)
    source.apply(workload(4, features, size, kinds=("write",)))
    image = tmp_path / "image.qcow2"
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", features.options, source.path, image)
    with open_disk(image) as disk:
        assert_same_windows(disk, source.path, [(0, size)])
        assert map_by_cowherd(disk) == map_by_qemu(image)


@pytest.mark.parametrize("features", TELLING, ids=str)
@pytest.mark.parametrize("preallocation", ["metadata", "falloc", "full"])
def test_reads_preallocated_images(features: Features, preallocation: str, tmp_path: Path, qemu_img: qemu.Tool):
    size = 3 * MIB // features.cluster_size * features.cluster_size + 512
    image = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"{features.options},preallocation={preallocation}", image, size)
    run_in_qemu(image, workload(5, features, size, kinds=("write", "zero", "unmap", "discard")), features)
    truth = qemu_content(image, tmp_path / "truth.raw")
    with open_disk(image) as disk:
        assert_same_windows(disk, truth, [(0, size)])
        assert map_by_cowherd(disk) == map_by_qemu(image)


@pytest.mark.parametrize("features", TELLING, ids=str)
def test_reads_an_image_with_internal_snapshots(features: Features, tmp_path: Path, qemu_img: qemu.Tool):
    size = features.odd_size
    image = create_with_qemu(tmp_path / "image.qcow2", features, size)
    run_in_qemu(image, workload(6, features, size), features)
    if features.refcount_bits > 1:
        qemu_img("snapshot", "-c", "before", image)
    run_in_qemu(image, workload(7, features, size, kinds=("write", "zero", "unmap", "discard")), features)
    truth = qemu_content(image, tmp_path / "truth.raw")
    with open_disk(image) as disk:
        assert_same_windows(disk, truth, features.windows(size))
        assert map_by_cowherd(disk) == map_by_qemu(image)


@pytest.mark.parametrize("features", TELLING, ids=str)
@pytest.mark.parametrize("sizes", [(1, 2, 3), (3, 2, 1), (2, 3, 1), (1, 3, 2)], ids=lambda sizes: "-".join(map(str, sizes)))
def test_reads_chains_of_layers_of_several_sizes(features: Features, sizes: tuple[int, ...], tmp_path: Path):
    # The lowest layer first; each ends elsewhere in a cluster.
    layers: list[Path] = []
    for depth, factor in enumerate(sizes):
        kind = TELLING[(TELLING.index(features) + depth) % len(TELLING)]
        size = factor * MIB + 512 * (depth + 1)
        layers.append(create_with_qemu(tmp_path / f"layer{depth}.qcow2", kind, size, backing=layers[-1] if layers else None))
        run_in_qemu(layers[-1], workload(8 + depth, kind, size), kind)
    truth = qemu_content(layers[-1], tmp_path / "truth.raw")
    with open_disk(layers[-1]) as disk:
        assert len(disk.layers) == len(sizes)
        assert_same_windows(disk, truth, [(0, disk.size)])
        assert map_by_cowherd(disk) == map_by_qemu(layers[-1])


@pytest.mark.parametrize("depth", [1, 8, 40])
def test_reads_deep_chains(depth: int, tmp_path: Path):
    features = Features(4096)
    size = MIB + 512
    layers: list[Path] = []
    for number in range(depth + 1):
        layers.append(create_with_qemu(tmp_path / f"layer{number}.qcow2", features, size, backing=layers[-1] if layers else None))
        run_in_qemu(layers[-1], workload(20 + number, features, size, number=5), features)
    truth = qemu_content(layers[-1], tmp_path / "truth.raw")
    with open_disk(layers[-1]) as disk:
        assert_same_windows(disk, truth, [(0, size)])
        assert map_by_cowherd(disk) == map_by_qemu(layers[-1])


@pytest.mark.parametrize("features", TELLING, ids=str)
def test_reads_an_overlay_of_a_raw_base(features: Features, tmp_path: Path):
    size = 2 * MIB + 512
    base = Model(tmp_path / "base.raw", size - 100 * 512)
    base.apply(workload(9, features, base.size, kinds=("write",)))
    overlay = create_with_qemu(tmp_path / "overlay.qcow2", features, size, backing=base.path, backing_format="raw")
    run_in_qemu(overlay, workload(10, features, size), features)
    truth = qemu_content(overlay, tmp_path / "truth.raw")
    with open_disk(overlay) as disk:
        assert_same_windows(disk, truth, [(0, size)])
        assert map_by_cowherd(disk) == map_by_qemu(overlay)


def _names(base: Path) -> dict[str, str]:
    return {
        "relative": base.name,
        "relative with a directory": f"../{base.parent.name}/{base.name}",
        "absolute": str(base),
        "file protocol": f"file:{base}",
        "json with dots": f'json:{{"driver": "qcow2", "file.driver": "file", "file.filename": "{base}"}}',
        "json nested": f'json:{{"driver": "qcow2", "file": {{"driver": "file", "filename": "{base}"}}}}',
    }


@pytest.mark.parametrize("form", list(_names(Path("/a/b"))))
def test_follows_every_form_of_backing_file_name(form: str, tmp_path: Path, qemu_img: qemu.Tool):
    features = Features()
    base = create_with_qemu(tmp_path / "base.qcow2", features, MIB)
    run_in_qemu(base, [Request("write", 12345, 77777, 1)], features)
    overlay = tmp_path / "overlay.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-b", _names(base)[form], "-F", "qcow2", overlay)
    truth = qemu_content(overlay, tmp_path / "truth.raw")
    with open_disk(overlay) as disk:
        assert disk.layers[1].file.path.samefile(base)
        assert_same_windows(disk, truth, [(0, MIB)])
