"""A crash at any moment leaves an image that `qemu-img check` finds no error in, and each byte as it was before or after a
request.

Short sessions are recorded and replayed in part (see `recording`). Each image that a crash could leave must also be fit for
more writes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cowherd.image.disk import Disk
from cowherd.image.open import open_disk
from tests import qemu
from tests.differential.recording import Recording
from tests.images import (
    KIB,
    MIB,
    Features,
    Request,
    assert_sound,
    create_with_cowherd,
    run_in_cowherd,
    workload,
)

pytestmark = pytest.mark.qemu

SAMPLES = 2
CLEAN_OR_LEAKING = (0, 3)


@dataclass(frozen=True)
class Resize:
    """A request to change the disk's size."""

    size: int


Step = Request | Resize


class Versions:
    """The disk's content after each step, as a guest without crashes would see it."""

    def __init__(self, content: bytes, cluster_size: int, *, discards: bool = True):
        self.contents = [content]
        self._cluster_size, self._discards = cluster_size, discards

    def step(self, step: Step) -> None:
        content = bytearray(self.contents[-1])
        if isinstance(step, Resize):
            content = content[: step.size].ljust(step.size, b"\0")
        elif step.kind in ("write", "compressed"):
            content[step.offset : step.end] = step.data
        elif step.kind in ("zero", "unmap"):
            content[step.offset : step.end] = bytes(step.length)
        elif step.kind == "discard" and self._discards:
            start = -(-step.offset // self._cluster_size) * self._cluster_size
            end = step.end if step.end == len(content) else step.end // self._cluster_size * self._cluster_size
            content[start:end] = bytes(max(0, end - start))
        self.contents.append(bytes(content))

    def assert_possible(self, found: bytes, durable: int, begun: int) -> None:
        """Fails unless each byte of `found` is as after one of the steps from the `durable`th to the `begun`th."""
        possible = self.contents[durable : begun + 1]
        assert len(found) in {len(content) for content in possible}
        bytes_found = np.frombuffer(found, np.uint8)
        right = np.zeros(len(found), np.bool_)
        for content in possible:
            shared = min(len(content), len(found))
            right[:shared] |= bytes_found[:shared] == np.frombuffer(content, np.uint8)[:shared]
        assert right.all(), f"guest byte {int(np.flatnonzero(~right)[0]):#x} is neither old nor new"


def _record(
    image: Path, steps: Sequence[Step], monkeypatch: pytest.MonkeyPatch, *, cluster_size: int, discards: bool = True
) -> tuple[Recording, Versions]:
    with open_disk(image, writable=True) as disk:
        versions = Versions(disk.read(0, disk.size), cluster_size, discards=discards)
        with monkeypatch.context() as patch:
            recording = Recording(image, patch)
            for step in steps:
                recording.begin()
                _take(disk, step)
                versions.step(step)
                if isinstance(step, Resize) or step.kind == "flush":
                    recording.settle()
            disk.close()
            recording.settle()
    return recording, versions


def _take(disk: Disk, step: Step) -> None:
    if isinstance(step, Resize):
        disk.resize(step.size)
    else:
        run_in_cowherd(disk, [step])


def _assert_survives(
    recording: Recording, versions: Versions, examine: Callable[[Path], None] = lambda image: None, *, gain: int = 96 * KIB
) -> int:
    """Checks the images that crashes could leave; returns how many there were."""
    generator = random.Random(1)
    crashed = recording.path.with_name("crashed.qcow2")
    number = 0
    for epoch, content in recording.crashes(generator, SAMPLES):
        crashed.write_bytes(content)
        qemu.Tool("qemu-img")("check", "-f", "qcow2", crashed, codes=CLEAN_OR_LEAKING)
        with open_disk(crashed) as disk:
            found = disk.read(0, disk.size)
        versions.assert_possible(found, epoch.durable, epoch.begun)
        if number % 4 == 0:
            examine(crashed)
            _assert_fit_for_more(crashed, found, generator, gain)
        number += 1
    return number


def _assert_fit_for_more(image: Path, content: bytes, generator: random.Random, gain: int) -> None:
    """Writes to an image after a crash, and makes its disk larger by `gain`: what was there stays, what is gained is zeros."""
    offset = generator.randrange(len(content))
    data = b"\xee" * generator.randrange(1, 20 * KIB)
    with open_disk(image, writable=True) as disk:
        disk.write(offset, data[: len(content) - offset])
        if gain:
            disk.resize(len(content) + gain)
    expected = bytearray(content)
    expected[offset : offset + len(data)] = data[: len(content) - offset]
    expected.extend(bytes(gain))
    qemu.Tool("qemu-img")("check", "-f", "qcow2", image, codes=CLEAN_OR_LEAKING)
    with open_disk(image) as disk:
        assert disk.read(0, disk.size) == expected


def _with_flushes(requests: Sequence[Step], every: int) -> list[Step]:
    steps: list[Step] = []
    for number, request in enumerate(requests):
        steps += [request, Request("flush")] if number % every == 0 else [request]
    return steps


@pytest.mark.parametrize(
    "features",
    [
        Features(512),
        Features(4096),
        Features(512, refcount_bits=1),
        Features(4096, version=2),
        Features(16 * KIB, extended_l2=True),
    ],
    ids=str,
)
def test_requests_survive_a_crash(features: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    size = 300 * KIB + 512
    image = create_with_cowherd(tmp_path / "image.qcow2", features, size)
    with open_disk(image, writable=True) as disk:
        run_in_cowherd(disk, workload(60, features, size))
    steps = _with_flushes(workload(61, features, size, number=30), 6)
    assert _assert_survives(*_record(image, steps, monkeypatch, cluster_size=features.cluster_size)) > 20


@pytest.mark.parametrize("features", [Features(512), Features(4096, version=2), Features(16 * KIB, extended_l2=True)], ids=str)
def test_requests_to_an_overlay_survive_a_crash(features: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    size = 300 * KIB + 512
    base = create_with_cowherd(tmp_path / "base.qcow2", Features(), size - 20 * KIB)
    with open_disk(base, writable=True) as disk:
        disk.write(0, b"\xbb" * (size - 20 * KIB))
    overlay = create_with_cowherd(tmp_path / "overlay.qcow2", features, size, backing=base)
    steps = _with_flushes(workload(62, features, size, number=30), 6)
    recorded = _record(overlay, steps, monkeypatch, cluster_size=features.cluster_size, discards=features.version >= 3)
    assert _assert_survives(*recorded) > 20


@pytest.mark.parametrize("features", [Features(512), Features(512, version=2), Features(16 * KIB, extended_l2=True)], ids=str)
def test_resizes_survive_a_crash(features: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # With 512-byte clusters an L1 table of one cluster maps 2 MiB, so that growing past that moves it.
    image = create_with_cowherd(tmp_path / "image.qcow2", features, 200 * KIB)
    with open_disk(image, writable=True) as disk:
        disk.write(0, b"\x11" * 200 * KIB)
    steps: list[Step] = [
        Request("write", 3000, 5000, 1),
        Resize(80 * KIB + 512),
        Request("write", 70 * KIB, 10 * KIB + 100, 2),
        Resize(120 * KIB),
        Resize(3 * MIB),
        Request("write", 3 * MIB - 70 * KIB, 70 * KIB, 3),
        Resize(64 * KIB),
        Request("write", 10 * KIB, 50 * KIB, 4),
        Resize(64 * KIB + 512),
    ]
    assert _assert_survives(*_record(image, steps, monkeypatch, cluster_size=features.cluster_size)) > 20


def test_resizes_of_an_overlay_survive_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    features = Features(512)
    base = create_with_cowherd(tmp_path / "base.qcow2", features, 150 * KIB)
    with open_disk(base, writable=True) as disk:
        disk.write(0, b"\xbb" * 150 * KIB)
    overlay = create_with_cowherd(tmp_path / "overlay.qcow2", features, 100 * KIB + 512, backing=base)
    steps: list[Step] = [
        Request("write", 60 * KIB + 100, 30 * KIB, 1),
        Resize(70 * KIB + 512),
        Resize(140 * KIB),
        Request("write", 130 * KIB, 100, 2),
        Resize(30 * KIB),
        Resize(200 * KIB),
    ]
    assert _assert_survives(*_record(overlay, steps, monkeypatch, cluster_size=512)) > 20


def test_a_growing_refcount_table_survives_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # With 512-byte clusters and 64-bit refcounts a block counts 32 KiB, and a table of one cluster 2 MiB.
    features = Features(512, refcount_bits=64)
    image = create_with_cowherd(tmp_path / "image.qcow2", features, 3 * MIB)
    with open_disk(image, writable=True) as disk:
        disk.write(0, b"\x11" * (1850 * KIB))
        before = disk.layers[0].header.refcount_table_offset
    steps: list[Step] = [
        Request("write", 1850 * KIB, 60 * KIB, 1),
        Request("flush"),
        Request("discard", 5 * KIB, 9 * KIB),
        Request("write", 1910 * KIB, 60 * KIB, 2),
        Request("write", 1970 * KIB, 60 * KIB, 3),
        Request("write", 2030 * KIB, 60 * KIB, 4),
        Request("flush"),
        Request("write", 0, 20 * KIB, 5),
    ]
    assert _assert_survives(*_record(image, steps, monkeypatch, cluster_size=512)) > 10
    with open_disk(image) as disk:
        assert disk.layers[0].header.refcount_table_offset != before
    assert_sound(image)


@pytest.mark.parametrize("features", [Features(512), Features(4096, version=2), Features(16 * KIB, extended_l2=True)], ids=str)
def test_snapshots_survive_a_crash(features: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qemu_img: qemu.Tool):
    size = 200 * KIB + 512
    image = create_with_cowherd(tmp_path / "image.qcow2", features, size)
    with open_disk(image, writable=True) as disk:
        run_in_cowherd(disk, workload(63, features, size))
        kept = disk.read(0, size)
    qemu_img("snapshot", "-c", "kept", image)
    steps = _with_flushes(workload(64, features, size, number=20), 5)

    def examine(crashed: Path) -> None:
        content = tmp_path / "snapshot.raw"
        qemu_img("convert", "-f", "qcow2", "-l", "snapshot.name=kept", "-O", "raw", crashed, content)
        assert content.read_bytes() == kept

    recorded = _record(image, steps, monkeypatch, cluster_size=features.cluster_size)
    gain = 96 * KIB if features.version >= 3 else 0  # a version 2 image with snapshots keeps its size
    assert _assert_survives(*recorded, examine, gain=gain) > 20
