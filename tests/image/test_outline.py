"""Outlines of chains, beside the disks of the same chains."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cowherd import extents as ext
from cowherd.errors import HostFileError, ImageInUse
from cowherd.formats.outline import NeedsArrays
from cowherd.image import outline as outline_module
from cowherd.image.open import open_disk
from cowherd.image.outline import Outline, laid_over, open_outline, place_of
from cowherd.kinds import BACKING, COMPRESSED, DATA, ENDLESS, NOWHERE, ZERO
from tests.images import KIB, MIB, Features, changed_by_cowherd, create_with_cowherd, examples, workload

PLAIN = ("write", "zero", "unmap", "discard")
ROWS = st.lists(
    st.tuples(st.integers(0, 99), st.integers(1, 40), st.integers(0, 5)).map(
        lambda row: (row[0], min(row[1], 100 - row[0]), row[0] + 1000 * row[2], row[2], (ZERO, DATA)[row[2] % 2])
    ),
    max_size=30,
)


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


@given(ROWS)
@settings(max_examples=examples(300))
def test_of_rows_of_several_layers_the_topmost_shows(rows: list[tuple[int, int, int, int, int]]):
    shown = [(6, NOWHERE, BACKING)] * 100
    for start, length, _, depth, kind in sorted(rows, key=lambda row: -row[3]):
        shown[start : start + length] = [(depth, 1000 * depth, kind)] * length
    found = laid_over(list(rows), 0, 100, 6)
    assert [start for start, *_ in found] == [0, *(start + length for start, length, *_ in found[:-1])]
    assert [
        (depth, NOWHERE if kind == BACKING else host - start, kind)
        for start, length, host, depth, kind in found
        for _ in range(length)
    ] == shown


def test_what_shows_without_a_break_is_one_row():
    upper, lower = (40, 10, NOWHERE, 0, ZERO), [(start, 5, start, 1, DATA) for start in range(0, 100, 20)]
    assert laid_over([(0, 100, 0, 0, DATA), *lower], 0, 100, 2) == [(0, 100, 0, 0, DATA)]
    assert laid_over([(0, 100, 7, 1, DATA), upper], 0, 100, 2) == [(0, 40, 7, 1, DATA), upper, (50, 50, 57, 1, DATA)]


def test_tables_below_what_covers_everything_are_not_looked_at(tmp_path: Path):
    base = create_with_cowherd(tmp_path / "base", Features(), MIB)
    with open_disk(base, writable=True) as disk:
        disk.write(0, b"b" * MIB)
    top = create_with_cowherd(tmp_path / "top", Features(), MIB, backing=base)
    with open_disk(top, writable=True) as disk:
        disk.write(0, b"t" * MIB)
    with open_outline(top) as found:
        found.rows(0, MIB)
        assert [layer.entries_met for layer in found.layers] == [16, 0]


def test_compressed_clusters_are_read_with_what_lies_between_them(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image", Features(4 * KIB), 3 * MIB)
    with open_disk(path, writable=True) as disk:
        for cluster in range(0, 700, 3):
            disk.write_compressed(cluster * 4 * KIB, bytes([cluster % 251]) * 4 * KIB)
            disk.write((cluster + 1) * 4 * KIB, os.urandom(4 * KIB))
        content = disk.read(0, disk.size)
    with pytest.raises(NeedsArrays), open_outline(path) as refused:
        refused.rows(0, 3 * MIB)
    with open_outline(path, compressed=True) as found:
        rows = found.rows(512, 3 * MIB - 512)
        assert {row[4] for row in rows} == {COMPRESSED, DATA, BACKING}
        buffer = memoryview(bytearray(3 * MIB - 1024))
        found.read_rows(rows, buffer)
    assert bytes(buffer) == content[512:-512]


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


def test_large_tables_are_left_to_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    top = chain(tmp_path, 2, 3)
    monkeypatch.setattr(outline_module, "_MOST_TABLE_BYTES", 2)
    before = descriptors()
    with pytest.raises(NeedsArrays):
        open_outline(top, format="qcow2")
    assert descriptors() == before


def test_too_many_entries_are_left_to_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(outline_module, "_MOST_ENTRIES", 15)
    path = create_with_cowherd(tmp_path / "image", Features(), MIB)
    with open_disk(path, writable=True) as disk:
        disk.write(0, b"x" * MIB)
    with open_outline(path) as found, pytest.raises(NeedsArrays):
        found.rows(0, MIB)


def test_an_unusual_backing_file_leaves_nothing_open(tmp_path: Path):
    base = create_with_cowherd(tmp_path / "base", Features(extended_l2=True), MIB)
    top = create_with_cowherd(tmp_path / "top", Features(), MIB, backing=base)
    before = descriptors()
    with pytest.raises(NeedsArrays):
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
