"""Resize, beside qemu-img resize."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from cowherd import extents as ext
from cowherd.errors import HostFileError, InvalidRequest, UnsupportedFeature
from cowherd.image.open import open_disk
from cowherd.ops.resize import resize
from cowherd.storage.hostfile import HostFile
from tests.images import KIB, MIB, TELLING, Features, Model, assert_sound, create_with_qemu, qemu_content, run_in_qemu, workload
from tests.ops.chains import Chain, Member
from tests.qemu import Tool

MODES = ("off", "metadata", "falloc", "full")


def image(directory: Path, features: Features | None, size: int) -> tuple[Path, str]:
    path = directory / "image"
    if features is None:
        Model(path, size).apply(workload(1, Features(4 * KIB), size, 12, ("write", "zero")))
        return path, "raw"
    create_with_qemu(path, features, size)
    run_in_qemu(path, workload(1, features, size, 12), features)
    return path, "qcow2"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("features", [None, *TELLING], ids=str)
@pytest.mark.parametrize("size", [MIB + 512, 5 * MIB + 1536])
def test_what_is_gained_reads_as_zeros(tmp_path: Path, qemu_img: Tool, features: Features | None, size: int, mode: str):
    if features is None and mode == "metadata":
        pytest.skip("raw images have no metadata")
    path, name = image(tmp_path, features, MIB)
    before = qemu_content(path, tmp_path / "before", format=name).read_bytes()
    resize(path, size, format=name, preallocation=mode)
    assert qemu_content(path, tmp_path / "after", format=name).read_bytes() == before.ljust(size, b"\0")
    with open_disk(path, format=name) as disk:
        assert disk.read(0, size) == before.ljust(size, b"\0")
    if features:
        assert_sound(path)


@pytest.mark.parametrize("mode", ["falloc", "full"])
@pytest.mark.parametrize(
    "features", [None, Features(), Features(4 * KIB, version=2), Features(16 * KIB, extended_l2=True)], ids=str
)
def test_preallocation_takes_the_hosts_space(tmp_path: Path, qemu_img: Tool, features: Features | None, mode: str):
    path, name = image(tmp_path, features, MIB)
    before = os.stat(path).st_blocks * 512
    resize(path, 9 * MIB, format=name, preallocation=mode)
    assert os.stat(path).st_blocks * 512 - before >= 8 * MIB - 64 * KIB
    if features:
        with open_disk(path, format=name, writable=True) as disk:  # a write goes where the space is
            length = path.stat().st_size
            disk.write(2 * MIB, b"x" * (6 * MIB))
            disk.flush()
            assert path.stat().st_size == length
        assert_sound(path)


@pytest.mark.parametrize("features", [None, *TELLING], ids=str)
@pytest.mark.parametrize("size", [512, MIB - 512, 2 * MIB])
def test_shrinking_keeps_the_beginning(tmp_path: Path, qemu_img: Tool, features: Features | None, size: int):
    path, name = image(tmp_path, features, 3 * MIB)
    before = qemu_content(path, tmp_path / "before", format=name).read_bytes()
    resize(path, size, format=name, shrink=True)
    assert qemu_content(path, tmp_path / "after", format=name).read_bytes() == before[:size]
    resize(path, 3 * MIB, format=name)  # what was cut off does not come back
    assert qemu_content(path, tmp_path / "after", format=name).read_bytes() == before[:size].ljust(3 * MIB, b"\0")
    if features:
        assert_sound(path)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("top", [Features(), Features(4 * KIB, version=2), Features(16 * KIB, extended_l2=True)], ids=str)
def test_a_larger_backing_file_does_not_show_in_what_is_gained(tmp_path: Path, qemu_img: Tool, top: Features, mode: str):
    """QEMU refuses this for version 2, which has no zero clusters; cowherd writes zeros there."""
    chain = Chain(tmp_path / "chain", Member("base", 3 * MIB), Member("top", MIB + 512, top, "base"))
    with open_disk(chain["base"], format="qcow2", writable=True) as disk:
        disk.write(0, b"b" * (3 * MIB))
    shown = chain.content("top")
    resize(chain.top, 2 * MIB + 512, format="qcow2", preallocation=mode)
    assert chain.content("top") == shown.ljust(2 * MIB + 512, b"\0")
    chain.assert_sound()


@pytest.mark.parametrize("format", ["raw", "qcow2"])
@pytest.mark.parametrize(
    ("size", "mode"), [(0, "off"), (512, "off"), (MIB, "full"), (512, "metadata"), (2 * MIB, "metadata"), (MIB + 1, "off")]
)
def test_refusals_are_in_qemus_words(tmp_path: Path, qemu_img: Tool, format: str, size: int, mode: str):
    path, name = image(tmp_path, Features() if format == "qcow2" else None, MIB)
    other = tmp_path / "other"
    shutil.copy(path, other)
    done = qemu_img.run("resize", "-f", name, "--preallocation", mode, other, size)
    if done.returncode == 0:
        resize(path, size, format=name, preallocation=mode)
        assert (
            qemu_content(path, tmp_path / "a", format=name).read_bytes()
            == qemu_content(other, tmp_path / "b", format=name).read_bytes()
        )
        return
    with pytest.raises(InvalidRequest) as caught:
        resize(path, size, format=name, preallocation=mode)
    assert done.stderr.splitlines()[0] == f"qemu-img: {caught.value}"
    assert path.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("size", [1 << 63, 1 << 80])
@pytest.mark.parametrize("features", [None, Features()], ids=str)
def test_impossible_sizes_are_refused(tmp_path: Path, features: Features | None, size: int):
    path, name = image(tmp_path, features, MIB)
    with pytest.raises(InvalidRequest):
        resize(path, size, format=name)


def test_a_size_that_the_tables_can_not_map_is_refused(tmp_path: Path, qemu_img: Tool):
    path, _ = image(tmp_path, Features(512), MIB)
    before = path.read_bytes()
    with pytest.raises(InvalidRequest, match="too large"):
        resize(path, 1 << 50, format="qcow2")
    assert path.read_bytes() == before


def test_an_unknown_mode_is_refused(tmp_path: Path):
    path, _ = image(tmp_path, None, MIB)
    with pytest.raises(InvalidRequest, match="Invalid preallocation mode 'some'"):
        resize(path, 2 * MIB, format="raw", preallocation="some")


def test_snapshots_of_version_2_are_in_the_way(tmp_path: Path, qemu_img: Tool):
    path, _ = image(tmp_path, Features(version=2), MIB)
    qemu_img("snapshot", "-c", "s", path)
    with pytest.raises(UnsupportedFeature):
        resize(path, 2 * MIB, format="qcow2")


def test_snapshots_of_version_3_keep_their_size(tmp_path: Path, qemu_img: Tool):
    path, _ = image(tmp_path, Features(), MIB)
    before = qemu_content(path, tmp_path / "before").read_bytes()
    qemu_img("snapshot", "-c", "s", path)
    resize(path, 512 * KIB, format="qcow2", shrink=True)
    assert_sound(path)
    qemu_img("snapshot", "-a", "s", path)
    assert qemu_content(path, tmp_path / "after").read_bytes() == before


def test_a_raw_file_keeps_its_length_if_the_space_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, _ = image(tmp_path, None, MIB)

    def full(file: HostFile, offset: int, length: int) -> None:
        raise HostFileError(file.path, "preallocate", OSError(28, os.strerror(28)))

    monkeypatch.setattr(HostFile, "preallocate", full)
    with pytest.raises(HostFileError):
        resize(path, 2 * MIB, format="raw", preallocation="falloc")
    assert path.stat().st_size == MIB


def test_metadata_preallocation_gives_every_cluster_a_place(tmp_path: Path):
    path, _ = image(tmp_path, Features(), MIB)
    resize(path, 4 * MIB, format="qcow2", preallocation="metadata")
    with open_disk(path, format="qcow2") as disk:
        for batch in disk.extents(MIB):
            assert (batch["host"] != ext.NOWHERE).all()
