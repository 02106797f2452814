"""Outlines of chains, beside the disks of the same chains."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest

from cowherd import extents as ext
from cowherd.errors import HostFileError, ImageInUse
from cowherd.formats.layer import ENDLESS
from cowherd.formats.outline import NotPlain
from cowherd.image import outline as outline_module
from cowherd.image.open import open_disk
from cowherd.image.outline import Outline, open_outline, place_of
from cowherd.kinds import BACKING, NOWHERE
from tests.images import KIB, MIB, Features, changed_by_cowherd, create_with_cowherd, workload

PLAIN = ("write", "zero", "unmap", "discard")


def chain(directory: Path, seed: int, number: int) -> Path:
    """A chain of `number` images of random sizes and cluster sizes, the root raw if `seed` is odd; returns the top."""
    choose, below = random.Random(seed), None
    for index in range(number):
        path, size = directory / str(index), choose.choice((300 * KIB, MIB + 512, 2 * MIB))
        if not index and seed % 2:
            path.write_bytes(choose.randbytes(100 * KIB) + bytes(100 * KIB) + choose.randbytes(size - 200 * KIB))
            below = path
            continue
        features = choose.choice((Features(512), Features(4 * KIB), Features()))
        raw_below = below is not None and below.name == "0" and seed % 2
        create_with_cowherd(path, features, size, backing=below, **({"backing_format": "raw"} if raw_below else {}))
        changed_by_cowherd(path, workload(seed + index, features, size, 8, PLAIN))
        below = path
    assert below is not None
    return below


def covered(disk_rows: list[tuple[int, int, int, int, int]]) -> list[tuple[int, int, int, int, int]]:
    return ext.merge(np.array(disk_rows, ext.EXTENT)).tolist()


def same_bytes(found: Outline, start: int, end: int) -> bytes:
    buffer = bytearray(end - start)
    found.read(((*place_of(row), row[1]) for row in found.rows(start, end)), memoryview(buffer))
    return bytes(buffer)


@pytest.mark.parametrize("seed", range(6))
def test_a_chain_is_covered_and_read_as_its_disk(tmp_path: Path, seed: int):
    top = chain(tmp_path, seed, 3)
    with open_disk(top, format="qcow2") as disk, open_outline(top, format="qcow2") as found:
        assert found.size == disk.size
        for start, end in ((0, disk.size), (700, disk.size - 3), (disk.size // 2, disk.size // 2 + 512)):
            extents = ext.concat(list(disk.extents(start, end - start)))
            rows = [row if row[4] != BACKING else (*row[:3], 0, BACKING) for row in found.rows(start, end)]
            expected = [row if row[4] != BACKING else (*row[:3], 0, BACKING) for row in extents.tolist()]
            assert covered(rows) == covered(expected)
            assert same_bytes(found, start, end) == disk.read(start, end - start)


def test_what_the_upper_layers_leave_open_is_left_open(tmp_path: Path):
    top = chain(tmp_path, 4, 3)
    with open_disk(top, format="qcow2") as disk, open_outline(top, format="qcow2") as found:
        expected = ext.concat(list(disk.extents(depth=2)))
        assert ext.total(ext.ranges_of(ext.of_kind(expected, BACKING))) == sum(
            row[1] for row in found.rows(0, found.size, 0, 2) if row[4] == BACKING
        )
        assert found.rows(0, 512, 3) == [(0, 512, NOWHERE, 3, BACKING)]
        assert found.empty_until(0, 0) == ENDLESS


def test_neighbours_in_a_file_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "raw"
    path.write_bytes(bytes(range(250)) * 100)
    with open_outline(path, format="raw") as found:
        reads: list[tuple[int, int]] = []
        original = type(found.layers[0].file).preadinto
        monkeypatch.setattr(
            type(found.layers[0].file),
            "preadinto",
            lambda file, offset, buffer: reads.append((offset, len(buffer))) or original(file, offset, buffer),
        )
        buffer = bytearray(b"z" * 1100)
        found.read([(100, 0, 200), (300, 0, 300), (NOWHERE, 0, 400), (0, 0, 200)], memoryview(buffer))
    assert reads == [(100, 500), (0, 200)]
    assert bytes(buffer) == path.read_bytes()[100:600] + bytes(400) + path.read_bytes()[:200]


def test_zeros_of_any_length_are_filled_in(tmp_path: Path):
    (tmp_path / "raw").write_bytes(b"")
    with open_outline(tmp_path / "raw", format="raw") as found:
        buffer = bytearray(b"z" * (2 * MIB + 5))
        found.read([(NOWHERE, 0, len(buffer))], memoryview(buffer))
    assert buffer == bytes(len(buffer))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("limit", ["_MOST_ENTRIES", "_MOST_LAYERS"])
def test_long_chains_and_large_tables_are_left_to_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str):
    top = chain(tmp_path, 2, 3)
    monkeypatch.setattr(outline_module, limit, 2)
    before = descriptors()
    with pytest.raises(NotPlain):
        open_outline(top, format="qcow2")
    assert descriptors() == before


def test_an_unusual_backing_file_leaves_nothing_open(tmp_path: Path):
    base = create_with_cowherd(tmp_path / "base", Features(extended_l2=True), MIB)
    top = create_with_cowherd(tmp_path / "top", Features(), MIB, backing=base)
    before = descriptors()
    with pytest.raises(NotPlain):
        open_outline(top)
    assert descriptors() == before


def test_a_writer_elsewhere_excludes_it_unless_it_is_forced(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image", Features(), MIB)
    with open_disk(path, writable=True):
        with pytest.raises(ImageInUse):
            open_outline(path)
        open_outline(path, force_share=True).close()


def test_a_file_that_is_not_there_is_said(tmp_path: Path):
    with pytest.raises(HostFileError, match="nothing"):
        open_outline(tmp_path / "nothing")
