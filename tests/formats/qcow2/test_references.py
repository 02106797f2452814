"""Counting references, against counting them one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.errors import ImageCorrupt, ImageFormatError, UnsupportedFeature
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.counter import Counter, expand, rank
from cowherd.formats.qcow2.header import read_header
from cowherd.formats.qcow2.refcounts import Refcounts, unpack_counts
from cowherd.formats.qcow2.references import References, expected_refcounts
from cowherd.formats.qcow2.state import ImageState
from cowherd.image.open import open_disk
from cowherd.storage.hostfile import HostFile
from tests.formats.qcow2.damaging import Damager, assert_same_check, checked
from tests.images import TELLING, Features, changed_by_cowherd, create_with_cowherd, workload
from tests.qemu import Tool


def counted(path: Path) -> References:
    with HostFile.open(path, lock=None) as file:
        return expected_refcounts(file, read_header(file))


def stored(path: Path) -> np.ndarray:
    """The refcounts of an image, read block by block."""
    with HostFile.open(path, lock=None) as file:
        header = read_header(file)
        table = np.frombuffer(file.pread(header.refcount_table_offset, header.cluster_size), ">u8")
        blocks = [
            unpack_counts(file.pread(int(offset), header.cluster_size), header.refcount_order) for offset in table if offset
        ]
        return np.concatenate(blocks)


def test_an_empty_image_refers_to_its_own_tables_only(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image.qcow2", Features(), 1 << 30)
    references = counted(path)
    assert references.counts.tolist() == [1, 1, 1, 1]  # header, refcount table, refcount block, L1 table
    assert references.counts.dtype == np.uint16
    assert (references.clusters, references.corruptions, references.check_errors) == (4, 0, 0)


@pytest.mark.parametrize("features", TELLING, ids=str)
def test_the_counts_are_those_that_a_sound_image_holds(tmp_path: Path, features: Features):
    path = create_with_cowherd(tmp_path / "image.qcow2", features, features.odd_size)
    changed_by_cowherd(path, workload(3, features, features.odd_size))
    references = counted(path)
    held = stored(path)
    assert references.counts.tolist() == held[: len(references.counts)].tolist()
    assert not held[len(references.counts) :].any()
    assert not references.messages.lines


@pytest.mark.qemu("qemu-io")
@pytest.mark.parametrize("width", [1, 16, 64])
def test_an_image_whose_refcounts_are_replaced_by_the_counts_is_sound(tmp_path: Path, qemu_img: Tool, qemu_io: Tool, width: int):
    path = tmp_path / "image.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"lazy_refcounts=on,refcount_bits={width}", path, "64M")
    # A writer that is killed leaves the dirty bit, and refcounts that it never wrote.
    qemu_io("-f", "qcow2", "-c", "write 0 1M", "-c", "write 32M 64k", "-c", "flush", "-c", "abort", path, codes=(-6,))
    assert Damager(path).header.dirty
    assert checked(path).corruptions
    with HostFile.open(path, writable=True) as file:
        header = read_header(file)
        refcounts = Refcounts(ImageState(file, header))
        refcounts.replace_all(expected_refcounts(file, header).counts)
        refcounts.write_blocks()
        refcounts.write_table()
    report = assert_same_check(path)
    assert (report.corruptions, report.leaks) == (0, 0)


def test_an_image_left_dirty_whose_tables_are_damaged_is_not_opened_for_writing(tmp_path: Path):
    features = Features(lazy_refcounts=True)
    path = create_with_cowherd(tmp_path / "image.qcow2", features, 1 << 20)
    changed_by_cowherd(path, workload(1, features, 1 << 20, 4, ("write",)))
    image = Damager(path)
    image.put(72, layout.INCOMPATIBLE_DIRTY)
    image.put(image.l2(15), 1 << 40)
    before = path.read_bytes()
    with pytest.raises(ImageCorrupt, match="exceeding the end of the file"):
        open_disk(path, format="qcow2", writable=True)
    assert path.read_bytes() == before
    image.put(image.l2(15), 0)
    open_disk(path, format="qcow2", writable=True).close()
    assert not image.header.dirty


def test_what_lies_past_the_end_is_reported_and_costs_no_memory(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image.qcow2", Features(), 1 << 30)
    changed_by_cowherd(path, workload(1, Features(), 1 << 20, 4, ("write",)))
    image = Damager(path)
    image.put(image.l2(100), 0x00FF_FFFF_FFFF_0000)
    image.put(image.l1(1), 0x00FF_FFFF_FFFF_0000)
    references = counted(path)
    assert references.corruptions == 2
    assert len(references.counts) <= references.clusters


def test_an_external_data_file_is_refused(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image.qcow2", Features(), 1 << 20)
    with HostFile.open(path, lock=None) as file:
        header = read_header(file)._replace(incompatible=layout.INCOMPATIBLE_DATA_FILE)
        with pytest.raises(UnsupportedFeature, match="external data file"):
            expected_refcounts(file, header)


def test_a_snapshot_table_that_makes_no_sense_is_refused(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image.qcow2", Features(), 1 << 20)
    with path.open("r+b") as file:
        file.seek(5 << 16)
        file.write(b"\xff" * 4096)
    with HostFile.open(path, lock=None) as file:
        header = read_header(file)._replace(nb_snapshots=layout.MAX_SNAPSHOTS, snapshots_offset=5 << 16)
        with pytest.raises(ImageFormatError, match="extra metadata"):
            expected_refcounts(file, header)


runs = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 100), st.integers(0, 5)), max_size=30)


@given(runs, st.sampled_from([1, 2, 4, 8, 16, 64]))
def test_the_counter_counts_as_one_by_one(added: list[tuple[int, int, int]], width: int):
    counter = Counter(500, width)
    naive = [0] * 501
    for chunk in (added[:15], added[15:]):
        if chunk:
            counter.add(*(np.array(column, np.int64) for column in zip(*chunk, strict=True)))
    for first, number, times in added:
        for cluster in range(first, first + number):
            naive[cluster] += times
    limit = (1 << width) - 1
    assert counter.counts.tolist() == [min(count, limit) for count in naive]
    excess = {cluster: count - limit for cluster, count in enumerate(naive) if count > limit}
    assert counter.overflows == sum(excess.values())
    assert {cluster: counter.overflowed.count(cluster) for cluster in set(counter.overflowed)} == excess
    assert counter.used == max((first + number for first, number, times in added if number and times), default=0)


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 9))))
def test_expand_lists_the_members_of_runs(some: list[tuple[int, int]]):
    first, number = (np.array([run[i] for run in some], np.int64) for i in (0, 1))
    assert expand(first, number).tolist() == [start + i for start, length in some for i in range(length)]


@given(st.lists(st.integers(0, 5)))
def test_rank_counts_equal_values_before(values: list[int]):
    assert rank(np.array(values, np.int64)).tolist() == [values[:i].count(value) for i, value in enumerate(values)]
