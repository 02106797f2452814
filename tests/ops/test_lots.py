"""Lots: whatever lies between the ranges, they are moved together, in order, each byte once."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest

from cowherd.formats.qcow2.create import new_header
from cowherd.formats.qcow2.options import Qcow2Options
from cowherd.image.open import open_disk
from cowherd.ops.create import create
from cowherd.ops.lots import COPY, TAKE, ZERO, Lot, lot_bytes, lots
from cowherd.ops.rewriting import ExistingImage
from cowherd.ops.sinks import NewQcow2, RawFile, Sink
from cowherd.ops.sources import Concatenation
from cowherd.storage.hostfile import HostFile

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


def planned(path: Path, sink: Sink, size: int, *, overlay: bool = False) -> list[Lot]:
    with open_disk(path) as disk:
        return list(lots(Concatenation([disk], overlay=overlay), sink, size, overlay=overlay))


def new_raw(folder: Path) -> RawFile:
    return RawFile(HostFile.create(folder / "target.raw"), 4096)


def test_scattered_clusters_are_moved_together(scattered: Path, tmp_path: Path) -> None:
    found = planned(scattered, new_raw(tmp_path), 2 << 20)
    assert {lot.means for lot in found} == {COPY}
    assert [lot.bytes // CLUSTER for lot in found] == [32, 32, 32, 32, 2]
    assert [start // CLUSTER for lot in found for start, _ in lot.ranges] == list(range(0, 390, 3))
    for lot in found:
        assert [(start, start + length) for start, length, *_ in lot.held] == lot.ranges


def test_a_target_that_keeps_zeros_gets_them_in_guest_order(scattered: Path, tmp_path: Path) -> None:
    sink = NewQcow2(HostFile.create(tmp_path / "new"), new_header(SIZE, Qcow2Options()), keeps_zeros=True)
    found = planned(scattered, sink, 2 << 20)
    assert {lot.means for lot in found} == {COPY, ZERO}
    everything = [pair for lot in found for pair in lot.ranges]
    assert everything[0][0] == 0
    assert everything[-1][1] == SIZE
    assert all(before[1] == after[0] for before, after in pairwise(everything))


def test_an_overlay_gets_what_the_source_holds_itself(scattered: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.qcow2"
    create(target, SIZE, backing=str(scattered), backing_format="qcow2")
    with open_disk(target, writable=True) as disk:
        found = planned(scattered, ExistingImage(disk, sparse_size=4096), 2 << 20, overlay=True)
    zeros = [pair for lot in found if lot.means == ZERO for pair in lot.ranges]
    assert zeros == [(number * CLUSTER, (number + 1) * CLUSTER) for number in range(1, 300, 30)]
    assert sum(lot.bytes for lot in found if lot.means == COPY) == 130 * CLUSTER


@pytest.mark.parametrize(("cluster_size", "means"), [(65536, [COPY, TAKE]), (4096, [COPY])])
def test_the_kernel_takes_long_runs_of_large_clusters(tmp_path: Path, cluster_size: int, means: list[int]) -> None:
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
    assert [kind for kind in (COPY, TAKE) if any(lot.means == kind for lot in found)] == means
    taken = [pair for lot in found if lot.means == TAKE for pair in lot.ranges]
    assert taken == ([(30 * CLUSTER, 63 * CLUSTER)] if TAKE in means else [])
    assert sum(lot.bytes for lot in found) == 43 * CLUSTER


@pytest.mark.parametrize(("alignment", "expected"), [(512, 2 << 20), (1536, 2096640), (2 << 20, 2 << 20), (3 << 20, 3 << 20)])
def test_a_lot_is_made_of_whole_units(alignment: int, expected: int) -> None:
    assert lot_bytes(alignment, 2 << 20) == expected
