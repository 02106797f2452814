"""Lots: whatever lies between the ranges, they are moved together, in order, each byte once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd import kinds
from cowherd.formats.qcow2.create import new_header
from cowherd.formats.qcow2.options import Qcow2Options
from cowherd.image.open import open_disk
from cowherd.image.reading import Reading, open_reading
from cowherd.image.rows import Ranges
from cowherd.ops.convert.batches import COPY, KERNEL_COPY, ZERO, Batch, batches, lot_bytes
from cowherd.ops.convert.rewriting import ExistingImage
from cowherd.ops.convert.sink import Sink
from cowherd.ops.convert.sinks import NewQcow2, RawFile
from cowherd.ops.convert.sources import Source
from cowherd.ops.create import create
from cowherd.storage.hostfile import HostFile
from tests.images import KIB, Features, changed_by_cowherd, create_with_cowherd, workload

CLUSTER = 65536
SIZE = 400 * CLUSTER


@pytest.fixture
def scattered(tmp_path: Path) -> Path:
    """An image of which every third cluster holds data, and some in between zeros."""
    path = tmp_path / "disk.qcow2"
    create(path, SIZE)
    with open_disk(path, writable=True) as disk:
        for number in range(0, 390, 3):
            disk.write(number * CLUSTER, os.urandom(CLUSTER))
        for number in range(1, 300, 30):
            disk.zero(number * CLUSTER, CLUSTER, unmap=False)
    return path


def planned(path: Path, sink: Sink, size: int, *, overlay: bool = False) -> list[Batch]:
    with open_disk(path) as disk:
        return list(batches(Source([Reading.of(disk)], overlay=overlay), sink, size, overlay=overlay))


def moved(found: list[Batch]) -> list[tuple[int, int, int]]:
    """(means, start, end) of what batches move, whether they end where a batch of tables ends or not."""
    joined: list[tuple[int, int, int]] = []
    for batch in found:
        for start, end in batch.ranges:
            if joined and joined[-1][0] == batch.means and joined[-1][2] == start:
                start = joined.pop()[1]
            joined.append((batch.means, start, end))
    return joined


def new_raw(folder: Path) -> RawFile:
    return RawFile(HostFile.create(folder / "target.raw"), 4096)


def test_scattered_clusters_are_moved_together(scattered: Path, tmp_path: Path) -> None:
    found = planned(scattered, new_raw(tmp_path), 2 << 20)
    assert {batch.means for batch in found} == {COPY}
    assert [batch.bytes // CLUSTER for batch in found] == [32, 32, 32, 32, 2]
    assert [start // CLUSTER for batch in found for start, _ in batch.ranges] == list(range(0, 390, 3))
    for batch in found:
        assert [(start, start + length) for start, length, *_ in batch.held] == batch.ranges


def test_a_target_that_keeps_zeros_gets_them_in_guest_order(scattered: Path, tmp_path: Path) -> None:
    sink = NewQcow2(HostFile.create(tmp_path / "new"), new_header(SIZE, Qcow2Options()), keeps_zeros=True)
    found = planned(scattered, sink, 2 << 20)
    assert {batch.means for batch in found} == {COPY, ZERO}
    everything = [pair for batch in found for pair in batch.ranges]
    assert everything[0][0] == 0
    assert everything[-1][1] == SIZE
    assert all(before[1] == after[0] for before, after in pairwise(everything))


def test_an_overlay_gets_what_the_source_holds_itself(scattered: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.qcow2"
    create(target, SIZE, backing=str(scattered), backing_format="qcow2")
    with open_disk(target, writable=True) as disk:
        found = planned(scattered, ExistingImage(disk, sparse_size=4096), 2 << 20, overlay=True)
    zeros = [pair for batch in found if batch.means == ZERO for pair in batch.ranges]
    assert zeros == [(number * CLUSTER, (number + 1) * CLUSTER) for number in range(1, 300, 30)]
    assert sum(batch.bytes for batch in found if batch.means == COPY) == 130 * CLUSTER


@pytest.mark.parametrize(
    ("cluster_size", "major", "means"), [(65536, 0, [COPY, KERNEL_COPY]), (4096, 0, [COPY]), (65536, 8, [COPY])]
)
def test_the_kernel_takes_long_runs_of_large_clusters_unless_they_lie_on_a_disk(
    tmp_path: Path, monkeypatch, cluster_size: int, major: int, means: list[int]
) -> None:
    monkeypatch.setattr("cowherd.storage.copying.os.major", lambda device: major)
    path = tmp_path / "disk.raw"
    path.write_bytes(os.urandom(16 * CLUSTER) + bytes(100 * CLUSTER))
    with path.open("r+b") as file:
        file.truncate(10 * CLUSTER)
        file.truncate(30 * CLUSTER)
        file.seek(30 * CLUSTER)
        file.write(os.urandom(33 * CLUSTER))
        file.truncate(SIZE)
    header = new_header(SIZE, Qcow2Options(cluster_size=cluster_size))
    found = planned(path, NewQcow2(HostFile.create(tmp_path / "new"), header), 2 << 20)
    assert [kind for kind in (COPY, KERNEL_COPY) if any(batch.means == kind for batch in found)] == means
    taken = [pair for batch in found if batch.means == KERNEL_COPY for pair in batch.ranges]
    assert taken == ([(30 * CLUSTER, 63 * CLUSTER)] if KERNEL_COPY in means else [])
    assert sum(batch.bytes for batch in found) == 43 * CLUSTER


@pytest.mark.parametrize(("alignment", "expected"), [(512, 2 << 20), (1536, 2096640), (2 << 20, 2 << 20), (3 << 20, 3 << 20)])
def test_a_lot_is_made_of_whole_units(alignment: int, expected: int) -> None:
    assert lot_bytes(alignment, 2 << 20) == expected


@pytest.mark.parametrize("features", [Features(512), Features(4 * KIB), Features()], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_without_arrays_the_lots_are_the_same(tmp_path: Path, features: Features, seed: int) -> None:
    base = create_with_cowherd(tmp_path / "base.qcow2", features, features.odd_size)
    changed_by_cowherd(base, workload(seed, features, features.odd_size, 20))
    size = Features().odd_size
    top = create_with_cowherd(tmp_path / "top.qcow2", Features(), size, backing=base)
    changed_by_cowherd(top, workload(seed + 10, Features(), size, 20))
    header = new_header(size // 512 * 512, Qcow2Options(cluster_size=16 * KIB))
    for sink in (new_raw(tmp_path), NewQcow2(HostFile.create(tmp_path / "new"), header, keeps_zeros=True)):
        expected = planned(top, sink, 2 << 20)
        with open_reading(top) as reading:
            source = Source([reading])
            found = list(batches(source, sink, 2 << 20, overlay=False))
            with open_disk(top) as disk:
                for batch in found:
                    if batch.means == COPY:
                        buffer = memoryview(bytearray(batch.bytes))
                        source.read(batch.ranges, batch.held, buffer)
                        assert bytes(buffer) == b"".join(disk.read(start, end - start) for start, end in batch.ranges)
        assert moved(found) == moved(expected)


ROWS = st.lists(
    st.tuples(st.integers(1, 40), st.sampled_from([kinds.DATA, kinds.ZERO, kinds.BACKING, kinds.COMPRESSED])), max_size=40
)


class Rows(Source):
    """Rows of these lengths and kinds, given in batches."""

    def __init__(self, parts: list[tuple[int, int]], batch: int):
        ends = list(accumulate(length for length, _ in parts))
        self.size, self.files, self.batch = (ends or [0])[-1], [], batch
        self.all = [(end - length, length, end - length, 0, kind) for end, (length, kind) in zip(ends, parts, strict=True)]

    def rows(self) -> Iterator[list[kinds.Row]]:
        for begin in range(0, len(self.all), self.batch):
            yield self.all[begin : begin + self.batch]

    def read(self, ranges: Ranges, held: list[kinds.Row], buffer: memoryview) -> None:
        raise AssertionError("only planned")


class Zeros(RawFile):
    """Units of 8 bytes, and zeros are wanted."""

    def __init__(self) -> None:
        self.alignment, self.unit, self.keeps_zeros = 8, 8, True

    def sharing(self) -> None:
        return None


@given(ROWS, st.integers(1, 5), st.booleans(), st.sampled_from([8, 24]))
def test_every_byte_has_its_means_and_every_row_its_place(
    parts: list[tuple[int, int]], rows_at_once: int, overlay: bool, size: int
) -> None:
    source = Rows(parts, rows_at_once)
    units: dict[int, set[int]] = {}
    shown = [kind for length, kind in parts for _ in range(length)]
    for at, kind in enumerate(shown):
        units.setdefault(at // 8, set()).add(kind)
    wanted: list[int | None] = []
    for at, kind in enumerate(shown):
        copied = units[at // 8] & {kinds.DATA, kinds.COMPRESSED}
        wanted.append(COPY if copied else ZERO if kind == kinds.ZERO or not overlay else None)
    found: list[int | None] = [None] * source.size
    done = 0
    for batch in batches(source, Zeros(), size, overlay=overlay):
        assert batch.ranges[0][0] >= done
        done = batch.end
        for start, end in batch.ranges:
            assert set(found[start:end]) == {None}
            found[start:end] = [batch.means] * (end - start)
        if batch.means == COPY:
            assert batch.bytes <= size
            assert all(start % 8 == 0 for start, _ in batch.ranges)
            bytes_held = [(start + at, host + at, kind) for start, length, host, _, kind in batch.held for at in range(length)]
            assert bytes_held == [(at, at, shown[at]) for start, end in batch.ranges for at in range(start, end)]
    assert found == wanted
