"""Refcounts: packing, allocating, growing, and their place in the file, checked with our own checker and with QEMU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.errors import ImageCorrupt, ImageFormatError
from cowherd.formats.qcow2.header import read_header
from cowherd.formats.qcow2.refcounts import Refcounts, pack_counts, read_table, unpack_counts
from cowherd.formats.qcow2.state import ImageState
from cowherd.storage.hostfile import HostFile
from tests.formats.qcow2.damaging import Damager, checked
from tests.images import Features, create_with_cowherd


def naive_count(block: bytes, index: int, order: int) -> int:
    """One refcount, as the specification places it."""
    width = 1 << order
    if width < 8:
        return block[index * width // 8] >> (index * width % 8) & ((1 << width) - 1)
    return int.from_bytes(block[index * width // 8 : (index + 1) * width // 8], "big")


@given(st.integers(0, 6), st.binary(min_size=8, max_size=64).map(lambda data: data[: len(data) // 8 * 8]))
def test_unpacked_counts_are_those_of_the_specification(order: int, block: bytes):
    counts = unpack_counts(block, order)
    assert counts.tolist() == [naive_count(block, index, order) for index in range(len(block) * 8 >> order)]
    assert pack_counts(counts, order) == block


def test_counts_have_the_narrowest_type():
    assert [unpack_counts(bytes(8), order).dtype.itemsize for order in range(7)] == [1, 1, 1, 1, 2, 4, 8]


@pytest.fixture(params=[Features(512, refcount_bits=1), Features(512), Features(4096, refcount_bits=64)], ids=str)
def refcounts(tmp_path: Path, request: pytest.FixtureRequest):
    path = create_with_cowherd(tmp_path / "image.qcow2", request.param, 1 << 20)
    with HostFile.open(path, writable=True) as file:
        yield Refcounts(ImageState(file, read_header(file)))


def written(refcounts: Refcounts) -> Path:
    """Writes everything in the order of a flush, gives the file the clusters that are counted, and returns its path."""
    refcounts.write_blocks()
    refcounts.write_table()
    refcounts.file.truncate(refcounts.last_used() * refcounts.header.cluster_size)
    return refcounts.file.path


def test_a_new_image_counts_its_own_tables(refcounts: Refcounts):
    used = refcounts.last_used()
    assert [refcounts.count(cluster) for cluster in range(used + 1)] == [1] * used + [0]
    assert refcounts.count(1 << 40) == 0


def test_allocated_clusters_are_free_ones_and_counted_once(refcounts: Refcounts):
    taken: set[int] = set(range(refcounts.last_used()))
    for wanted in (1, 3, 100, 1, 5000, 7):
        first, number = refcounts.allocate(wanted)
        assert 1 <= number <= wanted
        run = set(range(first, first + number))
        assert not run & taken
        assert all(refcounts.count(cluster) == 1 for cluster in run)
        taken |= run


def test_freed_clusters_are_used_again(refcounts: Refcounts):
    first, _ = refcounts.allocate(1)
    refcounts.allocate(1)
    refcounts.change(first, 1, -1)
    assert refcounts.allocate(1) == (first, 1)


@pytest.mark.parametrize("number", [1, 30, 600, 40000])
def test_a_run_is_adjacent_and_free(refcounts: Refcounts, number: int):
    refcounts.allocate(3)
    used = refcounts.last_used()
    first = refcounts.allocate_run(number)
    assert first >= 3
    assert all(refcounts.count(first + index) == 1 for index in (0, number // 2, number - 1))
    assert refcounts.last_used() >= used
    again = refcounts.allocate_run(number)
    assert again >= first + number or again + number <= first


def test_what_was_allocated_is_leaked_and_nothing_else_is_wrong(refcounts: Refcounts):
    refcounts.allocate_run(70)
    runs = [refcounts.allocate(2000) for _ in range(10)]
    report = checked(written(refcounts))
    assert report.corruptions == report.check_errors == 0
    assert report.leaks == 70 + sum(number for _, number in runs)


def test_the_refcount_table_grows_when_the_file_outgrows_it(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image.qcow2", Features(512, refcount_bits=64), 1 << 20)
    with HostFile.open(path, writable=True) as file:
        refcounts = Refcounts(ImageState(file, read_header(file)))
        before = len(refcounts.table)
        clusters = sum(refcounts.allocate(64)[1] for _ in range(500))
        assert len(refcounts.table) > before
        assert refcounts.header.refcount_table_offset == read_header(file).refcount_table_offset
        written(refcounts)
    report = checked(path)
    assert (report.corruptions, report.check_errors, report.leaks) == (0, 0, clusters)


def test_the_clusters_of_refcount_blocks_are_known_also_after_more_came(refcounts: Refcounts):
    before = refcounts.block_clusters
    while len(refcounts.block_clusters) < len(before) + 3:
        refcounts.allocate(refcounts.per_block)
    offsets = refcounts.table[refcounts.table != 0].tolist()
    assert refcounts.block_clusters == {offset // refcounts.header.cluster_size for offset in offsets}
    assert before < refcounts.block_clusters


def test_a_count_below_zero_is_corruption(refcounts: Refcounts):
    free = refcounts.last_used()
    with pytest.raises(ImageCorrupt, match="contradicts"):
        refcounts.change(free, 1, -1)
    with pytest.raises(ImageCorrupt, match="no refcount"):
        refcounts.change(1 << 40, 1, -1)


def test_a_count_beyond_its_width_is_corruption(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image.qcow2", Features(refcount_bits=2), 1 << 20)
    with HostFile.open(path, writable=True) as file:
        refcounts = Refcounts(ImageState(file, read_header(file)))
        assert refcounts.maximum == 3
        refcounts.change(0, 1, 2)
        with pytest.raises(ImageCorrupt):
            refcounts.change(0, 1, 1)


def test_replaced_counts_are_complete(refcounts: Refcounts):
    used = refcounts.last_used()
    refcounts.allocate(10)
    counts = np.ones(used, np.uint8)
    counts[used - 1] = 0
    refcounts.replace_all(counts)
    written(refcounts)
    assert [refcounts.count(cluster) for cluster in range(used + 10)] == [1] * (used - 1) + [0] * 11


def test_a_file_without_room_in_its_table_can_not_be_repaired(refcounts: Refcounts):
    with pytest.raises(ImageCorrupt, match="too small"):
        refcounts.replace_all(np.ones((len(refcounts.table) + 1) * refcounts.per_block, np.uint8))


def test_a_crooked_refcount_table_is_refused(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image.qcow2", Features(), 1 << 20)
    image = Damager(path)
    image.put(image.refcount_table(2), 512)
    with HostFile.open(path) as file, pytest.raises(ImageFormatError, match="refcount table entry 2"):
        read_table(file, read_header(file))


@pytest.mark.parametrize("number", [4096, 5000, 20000, 100000])
def test_the_refcount_table_grows_for_a_run_that_is_longer_than_it_could_count(tmp_path: Path, number: int):
    path = create_with_cowherd(tmp_path / "image.qcow2", Features(512, refcount_bits=64), 1 << 20)
    with HostFile.open(path, writable=True) as file:
        refcounts = Refcounts(ImageState(file, read_header(file)))
        before = len(refcounts.table)
        first = refcounts.allocate_run(number)
        assert len(refcounts.table) > before
        assert [refcounts.count(cluster) for cluster in range(first, first + number)] == [1] * number
        written(refcounts)
    report = checked(path)
    assert (report.corruptions, report.check_errors, report.leaks) == (0, 0, number)
