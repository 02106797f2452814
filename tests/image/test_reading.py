"""Readings of chains, beside the disks of the same chains."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest

from cowherd import extents as ext
from cowherd.errors import BackingFileError, HostFileError, ImageFormatError, ImageInUse
from cowherd.image import reading as reading_module
from cowherd.image.open import open_disk
from cowherd.image.reading import Reading, open_reading
from cowherd.kinds import BACKING, COMPRESSED, DATA, ENDLESS, NOWHERE, ZERO
from tests.formats.qcow2.damaging import Damager
from tests.images import KIB, MIB, Features, changed_by_cowherd, create_with_cowherd, workload

SOURCES = Path(reading_module.__file__).parents[1]
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


def bytes_of(found: Reading, start: int, end: int) -> bytes:
    buffer = bytearray(end - start)
    found.read(found.rows(start, end), memoryview(buffer))
    return bytes(buffer)


def with_arrays(found: Reading) -> bool:
    return found._disk is not None


@pytest.mark.parametrize("arrays", [False, True], ids=["plain", "arrays"])
@pytest.mark.parametrize("seed", range(6))
def test_a_chain_is_covered_and_read_as_its_disk(tmp_path: Path, seed: int, arrays: bool):
    top = chain(tmp_path, seed, 3)
    with open_disk(top, format="qcow2") as disk, open_reading(top, format="qcow2") as found:
        if arrays:
            found.disk()
        assert found.size == disk.size
        for start, end in ((0, disk.size), (700, disk.size - 3), (disk.size // 2, disk.size // 2 + 512)):
            extents = ext.concat(list(disk.extents(start, end - start)))
            rows = [row if row[4] != BACKING else (*row[:3], 0, BACKING) for row in found.rows(start, end)]
            expected = [row if row[4] != BACKING else (*row[:3], 0, BACKING) for row in extents.tolist()]
            assert covered(rows) == covered(expected)
            assert bytes_of(found, start, end) == disk.read(start, end - start)


@pytest.mark.parametrize("arrays", [False, True], ids=["plain", "arrays"])
def test_what_the_upper_layers_leave_open_is_left_open(tmp_path: Path, arrays: bool):
    top = chain(tmp_path, 4, 3)
    with open_disk(top, format="qcow2") as disk, open_reading(top, format="qcow2") as found:
        if arrays:
            found.disk()
        expected = ext.concat(list(disk.extents(depth=2)))
        assert ext.total(ext.ranges_of(ext.of_kind(expected, BACKING))) == sum(
            row[1] for row in found.rows(0, found.size, 0, 2) if row[4] == BACKING
        )
        assert [row[:3] + row[4:] for row in found.rows(0, 512, 3)] == [(0, 512, NOWHERE, BACKING)]
        assert found.empty_until(0, 0) == ENDLESS


def test_tables_below_what_covers_everything_are_not_looked_at(tmp_path: Path):
    base = create_with_cowherd(tmp_path / "base", Features(), MIB)
    with open_disk(base, writable=True) as disk:
        disk.write(0, b"b" * MIB)
    top = create_with_cowherd(tmp_path / "top", Features(), MIB, backing=base)
    with open_disk(top, writable=True) as disk:
        disk.write(0, b"t" * MIB)
    with open_reading(top) as found:
        found.rows(0, MIB)
        assert [layer.entries_met for layer in found._outlines] == [16, 0]


def test_compressed_clusters_are_read_with_what_lies_between_them(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image", Features(4 * KIB), 3 * MIB)
    with open_disk(path, writable=True) as disk:
        for cluster in range(0, 700, 3):
            disk.write_compressed(cluster * 4 * KIB, bytes([cluster % 251]) * 4 * KIB)
            disk.write((cluster + 1) * 4 * KIB, os.urandom(4 * KIB))
        content = disk.read(0, disk.size)
    with open_reading(path) as found:
        rows = found.rows(512, 3 * MIB - 512)
        assert {row[4] for row in rows} == {COMPRESSED, DATA, BACKING}
        buffer = memoryview(bytearray(3 * MIB - 1024))
        found.read(rows, buffer)
    assert bytes(buffer) == content[512:-512]


def test_neighbours_in_a_file_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "raw"
    path.write_bytes(bytes(range(250)) * 100)
    with open_reading(path, format="raw") as found:
        reads: list[tuple[int, int]] = []
        original = type(found.layers[0].file).preadinto
        monkeypatch.setattr(
            type(found.layers[0].file),
            "preadinto",
            lambda file, offset, buffer: reads.append((offset, len(buffer))) or original(file, offset, buffer),
        )
        buffer = bytearray(b"z" * 1100)
        rows = [(0, 200, 100, 0, DATA), (200, 300, 300, 0, DATA), (500, 400, NOWHERE, 0, ZERO), (900, 200, 0, 0, DATA)]
        found.read(rows, memoryview(buffer))
    assert reads == [(100, 500), (0, 200)]
    assert bytes(buffer) == path.read_bytes()[100:600] + bytes(400) + path.read_bytes()[:200]


def test_zeros_of_any_length_are_filled_in(tmp_path: Path):
    (tmp_path / "raw").write_bytes(b"")
    with open_reading(tmp_path / "raw", format="raw") as found:
        buffer = bytearray(b"z" * (2 * MIB + 5))
        found.read([(0, len(buffer), NOWHERE, 0, ZERO)], memoryview(buffer))
    assert buffer == bytes(len(buffer))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def filled(path: Path, *, size: int = MIB) -> Path:
    create_with_cowherd(path, Features(), size)
    with open_disk(path, writable=True) as disk:
        disk.write(0, os.urandom(size))
    return path


def test_large_tables_are_read_as_arrays_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    top = chain(tmp_path, 2, 3)
    monkeypatch.setattr(reading_module, "_MOST_TABLE_BYTES", 2)
    before = descriptors()
    with open_reading(top, format="qcow2") as found, open_disk(top, format="qcow2") as disk:
        assert with_arrays(found)
        assert bytes_of(found, 0, found.size) == disk.read(0, disk.size)
    assert descriptors() == before


@pytest.mark.parametrize(("bound", "most"), [("_MOST_ENTRIES", 15), ("_MOST_ROWS", 0)])
def test_after_too_much_it_goes_on_with_arrays_over_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, most: int
):
    path = filled(tmp_path / "image")
    with open_reading(path) as found:
        plain = found.rows(0, MIB)
        assert not with_arrays(found)
    monkeypatch.setattr(reading_module, bound, most)
    before = descriptors()
    with open_reading(path) as found:
        assert not with_arrays(found)
        files = found.files
        assert found.rows(0, MIB) == plain
        assert with_arrays(found)
        assert found.rows(0, MIB) == plain
        assert found.files == files
        assert bytes_of(found, 0, MIB) == bytes_of(Reading.of(found.disk()), 0, MIB)
    assert descriptors() == before


def test_an_odd_table_is_read_as_arrays_from_there_on(tmp_path: Path):
    reach = 2 * MIB  # of a table of clusters of 4 KiB
    path = create_with_cowherd(tmp_path / "image", Features(4 * KIB), 2 * reach)
    with open_disk(path, writable=True) as disk:
        disk.write(0, b"x" * 512)
        disk.write(reach, b"y" * 512)
    damager = Damager(path)
    entry = damager.l2(0, table=1)
    damager.put(entry, damager.word(entry) | 512)  # its place begins inside of a cluster
    with open_reading(path) as found:
        assert found.rows(0, 512)[0][4] == DATA
        assert not with_arrays(found)
        with pytest.raises(ImageFormatError):
            found.rows(reach, 2 * reach)
        assert with_arrays(found)


def test_batches_cover_the_disk_window_by_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = filled(tmp_path / "image")
    monkeypatch.setattr(reading_module, "_WINDOW_UNITS", 4)
    with open_reading(path) as found:
        batches = list(found.batches())
        assert [(rows[0][0], rows[-1][0] + rows[-1][1]) for rows in batches] == [
            (start, start + 256 * KIB) for start in range(0, MIB, 256 * KIB)
        ]
        assert covered([row for rows in batches for row in rows]) == covered(found.rows(0, MIB))


def test_an_unusual_backing_file_is_read_as_arrays(tmp_path: Path):
    base = create_with_cowherd(tmp_path / "base", Features(extended_l2=True), MIB)
    with open_disk(base, writable=True) as disk:
        disk.write(3000, b"below" * 3000)
    top = create_with_cowherd(tmp_path / "top", Features(), MIB, backing=base)
    before = descriptors()
    with open_reading(top) as found, open_disk(top) as disk:
        assert bytes_of(found, 0, MIB) == disk.read(0, MIB)
    assert descriptors() == before


def test_a_backing_file_that_nobody_reads_leaves_nothing_open(tmp_path: Path):
    base = create_with_cowherd(tmp_path / "base", Features(), MIB)
    top = create_with_cowherd(tmp_path / "top", Features(), MIB, backing=base)
    Damager(base).put_bytes(32, (1).to_bytes(4, "big"))  # it says that it is encrypted
    before = descriptors()
    with pytest.raises(BackingFileError, match="encryption"):
        open_reading(top)
    assert descriptors() == before


def test_an_image_may_be_read_without_its_backing_file(tmp_path: Path):
    top = create_with_cowherd(tmp_path / "top", Features(), MIB, backing=filled(tmp_path / "base"))
    with open_reading(top, backing=False) as found:
        assert bytes_of(found, 0, MIB) == bytes(MIB)


def test_whether_arrays_are_needed_concerns_nobody_above():
    above = [path for path in SOURCES.rglob("*.py") if path.relative_to(SOURCES).parts[0] not in ("formats", "image")]
    assert len(above) > 100
    assert [path for path in above if "NeedsArrays" in path.read_text(encoding="utf-8")] == []


def test_a_writer_elsewhere_excludes_it_unless_it_is_forced(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image", Features(), MIB)
    with open_disk(path, writable=True):
        with pytest.raises(ImageInUse):
            open_reading(path)
        open_reading(path, force_share=True).close()


def test_a_file_that_is_not_there_is_said(tmp_path: Path):
    with pytest.raises(HostFileError, match="nothing"):
        open_reading(tmp_path / "nothing")


def test_stretches_are_where_files_hold_plain_data(tmp_path: Path):
    base, top = tmp_path / "base", tmp_path / "top"
    base.write_bytes(b"base" * (1 << 16))
    create_with_cowherd(top, Features(), 256 * KIB, backing=base, backing_format="raw")
    with open_disk(top, format="qcow2", writable=True) as disk:
        disk.write(64 * KIB, bytes([1]) * (64 * KIB))
        disk.zero(192 * KIB, 64 * KIB)
    with open_reading(top, format="qcow2") as found:
        told = [(file.name, offset, length) for file, offset, length in found.stretches(found.rows(0, 256 * KIB))]
        host = next(row[2] for row in found.rows(0, 256 * KIB) if row[3] == 0)
    assert told == [(str(base), 0, 64 * KIB), (str(top), host, 64 * KIB), (str(base), 128 * KIB, 64 * KIB)]


def test_a_file_with_compressed_clusters_among_them_is_left_out(tmp_path: Path):
    """To ask for its plain clusters first would make the disk jump over what is read before them."""
    base, top = tmp_path / "base", tmp_path / "top"
    base.write_bytes(b"base" * (1 << 16))
    create_with_cowherd(top, Features(), 256 * KIB, backing=base, backing_format="raw")
    with open_disk(top, format="qcow2", writable=True) as disk:
        disk.write(0, bytes([1]) * (64 * KIB))
        disk.write_compressed(64 * KIB, bytes([2]) * (64 * KIB))
    with open_reading(top, format="qcow2") as found, open_disk(top, format="qcow2") as same:
        rows = found.rows(0, 256 * KIB)
        assert [(kind, depth) for _, _, _, depth, kind in rows] == [(DATA, 0), (COMPRESSED, 0), (DATA, 1)]
        for told in (found.stretches(rows), found.disk().stretches(same.cover(0, 256 * KIB, 0, 2))):
            assert [(file.name, offset, length) for file, offset, length in told] == [(str(base), 128 * KIB, 128 * KIB)]
        plain = [row for row in rows if row[4] == DATA]
        assert [file.name for file, _, _ in found.stretches(plain)] == [str(top), str(base)]
