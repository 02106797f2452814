"""qcow2 and raw right on block devices, as oVirt, CloudStack and Proxmox have it on LVM: what qemu-img does is the reference.

A device does not end where the image does, can't grow, and holds what somebody left there: it is full of bytes that are neither
zeros nor tables before each test.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import cowherd
from cowherd.errors import HostFileError, InvalidRequest
from tests.cli.img.both import cowherd_img
from tests.qemu import Tool
from tests.storage.hosts import loop_device

pytestmark = pytest.mark.qemu

MIB = 1 << 20
DEVICE = 32 * MIB
SIZE = 8 * MIB + 512  # the last cluster is a part of one

qemu_img, qemu_io = Tool("qemu-img"), Tool("qemu-io")


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    """A block device of 32 MiB, full of somebody's bytes."""
    backing = tmp_path / "backing"
    backing.write_bytes(random.Random(1).randbytes(MIB) * (DEVICE // MIB))
    with loop_device(backing) as found:
        yield found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A raw disk with data, zeros that are stored, and holes."""
    path = tmp_path / "source.raw"
    path.write_bytes(random.Random(2).randbytes(3 * MIB) + bytes(MIB) + random.Random(3).randbytes(MIB))
    with path.open("r+b") as file:
        file.truncate(SIZE)
        file.seek(SIZE - 100)
        file.write(b"the end" * 14)
    return path


def reads_zero(device: Path, offset: int, length: int, format: str = "qcow2") -> bool:
    """Whether QEMU reads zeros there."""
    return "failed" not in qemu_io("-r", "-f", format, "-c", f"read -P 0 {offset} {length}", device, codes=(0, 1))


def fill(image: Path, size: int) -> None:
    """Writes a disk full, a MiB at a time."""
    with cowherd.open(image, format="qcow2", writable=True) as disk:
        for start in range(0, size, MIB):
            disk.write(start, memoryview(b"x" * MIB))


QCOW2 = [
    {},
    {"preallocation": "metadata"},
    {"compat": "0.10"},
    {"compat": "0.10", "preallocation": "metadata"},
    {"extended_l2": "on"},
    {"extended_l2": "on", "preallocation": "metadata"},
    {"cluster_size": "512"},
    {"cluster_size": "2M", "preallocation": "metadata"},
]


@pytest.mark.parametrize("options", QCOW2, ids=str)
def test_a_new_image_on_a_device_reads_as_zeros_and_is_sound(device: Path, options: dict[str, str]):
    cowherd.create(device, SIZE, options=options)
    qemu_img("check", "-f", "qcow2", device)
    assert reads_zero(device, 0, SIZE)
    qemu_io("-f", "qcow2", "-c", "write -P 7 1M 3M", "-c", "read -P 7 1M 3M", "-c", "read -P 0 0 1M", device)
    qemu_img("check", "-f", "qcow2", device)


@pytest.mark.parametrize("options", QCOW2, ids=str)
@pytest.mark.parametrize("more", [{}, {"sparse_size": 0}], ids=["sparse", "full"])
def test_a_conversion_to_a_device_holds_the_source(device: Path, source: Path, options: dict[str, str], more: dict[str, int]):
    cowherd.convert(source, device, source_format="raw", target_format="qcow2", options=options, **more)
    qemu_img("check", "-f", "qcow2", device)
    qemu_img("compare", "-f", "raw", "-F", "qcow2", source, device)
    qemu_img("resize", "-q", "-f", "qcow2", device, 12 * MIB)
    assert reads_zero(device, SIZE, 12 * MIB - SIZE)


def test_a_compressed_conversion_to_a_device_holds_the_source(device: Path, source: Path):
    cowherd.convert(source, device, source_format="raw", target_format="qcow2", compress=True)
    qemu_img("check", "-f", "qcow2", device)
    qemu_img("compare", "-f", "raw", "-F", "qcow2", source, device)
    qemu_img("resize", "-q", "-f", "qcow2", device, 12 * MIB)
    assert reads_zero(device, SIZE, 12 * MIB - SIZE)


@pytest.mark.parametrize("more", [{}, {"sparse_size": 0}], ids=["sparse", "full"])
def test_a_raw_conversion_writes_its_zeros_too_and_leaves_the_rest(device: Path, source: Path, more: dict[str, int]):
    with device.open("rb") as file:
        file.seek(SIZE)
        behind = file.read()
    cowherd.convert(source, device, source_format="raw", **more)
    with device.open("rb") as file:
        assert file.read(SIZE) == source.read_bytes()
        assert file.read() == behind


def test_a_copied_part_writes_zeros_over_what_the_device_held(device: Path, source: Path):
    assert cowherd_img("dd", "-f", "raw", "-O", "raw", f"if={source}", f"of={device}", "bs=1M", "count=8").code == 0
    with device.open("rb") as file:
        assert file.read(8 * MIB) == source.read_bytes()[: 8 * MIB]


@pytest.mark.parametrize("format", ["qcow2", "raw"])
def test_a_conversion_into_what_is_there_already_holds_the_source(device: Path, source: Path, format: str):
    qemu_img("create", "-q", "-f", format, device, DEVICE if format == "raw" else 9 * MIB)
    if format == "qcow2":
        qemu_io("-f", "qcow2", "-c", "write -P 9 0 9M", device)
    cowherd.convert(source, device, source_format="raw", target_format=format, create_target=False)
    assert f"offset {SIZE}" in qemu_img("compare", "-f", "raw", "-F", format, source, device, codes=(0, 1)) or format == "qcow2"


def test_an_image_may_be_larger_than_its_device_until_it_is_full(device: Path):
    cowherd.create(device, 100 * MIB)
    with pytest.raises(HostFileError, match="No space left"):
        fill(device, 100 * MIB)
    qemu_img("check", "-f", "qcow2", device)
    assert "failed" not in qemu_io("-r", "-f", "qcow2", "-c", "read -P 120 0 30M", device)


@pytest.mark.parametrize(
    ("size", "format", "options"),
    [
        (100 * MIB, "qcow2", {"preallocation": "metadata"}),
        (SIZE, "qcow2", {"preallocation": "falloc"}),
        (SIZE, "qcow2", {"preallocation": "full"}),
        (DEVICE + 512, "raw", {}),
        (SIZE, "raw", {"preallocation": "full"}),
    ],
)
def test_what_qemu_refuses_on_a_device_is_refused(device: Path, size: int, format: str, options: dict[str, str]):
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    qemu_img("create", "-q", "-f", format, *words, device, size, codes=(1,))
    with pytest.raises((InvalidRequest, HostFileError)):
        cowherd.create(device, size, format=format, options=options)


def test_a_creation_that_fails_leaves_no_image_of_before(device: Path):
    qemu_img("create", "-q", "-f", "qcow2", device, SIZE)
    with pytest.raises(HostFileError):
        cowherd.create(device, 100 * MIB, options={"preallocation": "metadata"})
    with device.open("rb") as file:
        assert file.read(4) != b"QFI\xfb"


def test_a_raw_image_in_the_place_of_a_qcow2_image_is_not_taken_for_one(device: Path):
    qemu_img("create", "-q", "-f", "qcow2", device, SIZE)
    cowherd.create(device, SIZE, format="raw")
    with device.open("rb") as file:
        assert file.read(512) == bytes(512)


def test_the_tables_of_an_image_that_the_device_held_are_not_believed(device: Path, source: Path):
    qemu_img("convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=4k", source, device)
    cowherd.create(device, 100 * MIB)
    qemu_img("check", "-f", "qcow2", device)
    assert reads_zero(device, 0, 100 * MIB)


def test_resize_on_a_device(device: Path, source: Path):
    cowherd.convert(source, device, source_format="raw", target_format="qcow2", options={"cluster_size": "4k"})
    cowherd.resize(device, 4096 * MIB, format="qcow2")
    qemu_img("check", "-f", "qcow2", device)
    assert reads_zero(device, SIZE, 4 * MIB)
    cowherd.resize(device, 2 * MIB, format="qcow2", shrink=True)
    qemu_img("check", "-f", "qcow2", device)
    with pytest.raises(InvalidRequest, match="unsupported for this non-regular file"):
        cowherd.resize(device, 3 * MIB, format="qcow2", preallocation="full")
    qemu_img("check", "-f", "qcow2", device)


def test_commit_into_a_device_and_rebase_from_it(device: Path, source: Path, tmp_path: Path):
    cowherd.convert(source, device, source_format="raw", target_format="qcow2")
    overlay = tmp_path / "overlay.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-b", device, "-F", "qcow2", overlay, 9 * MIB)
    qemu_io("-f", "qcow2", "-c", "write -P 5 6M 1M", "-c", "write -P 6 8704k 256k", overlay)
    expected = tmp_path / "expected.raw"
    qemu_img("convert", "-f", "qcow2", "-O", "raw", overlay, expected)
    cowherd.commit(overlay)
    qemu_img("check", "-f", "qcow2", device)
    qemu_img("compare", "-f", "raw", "-F", "qcow2", expected, device)
    cowherd.rebase(overlay, None)
    qemu_img("compare", "-f", "raw", "-F", "qcow2", expected, overlay)


def test_leaks_on_a_device_are_found_as_qemu_finds_them(device: Path):
    qemu_img("create", "-q", "-f", "qcow2", device, SIZE)
    qemu_io("-f", "qcow2", "-c", "write 0 1M", device)
    with device.open("r+b") as file:  # the first L1 entry's table is lost
        file.seek(3 * 65536)
        file.write(bytes(8))
    assert qemu_img.run("check", "-f", "qcow2", device).returncode == 3
    assert cowherd_img("check", "-f", "qcow2", device).code == 3


def test_an_overlay_on_a_device(device: Path, source: Path):
    cowherd.convert(source, device, source_format="raw", target_format="qcow2", backing=str(source), backing_format="raw")
    qemu_img("compare", "-f", "raw", "-F", "qcow2", source, device)
    qemu_img("check", "-f", "qcow2", device)
