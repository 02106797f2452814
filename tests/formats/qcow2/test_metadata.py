"""Changed tables and refcounts: the order in which they reach the file, and what the image refuses to trust."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.errors import ImageCorrupt
from cowherd.formats.qcow2 import metadata as metadata_module
from cowherd.formats.qcow2.descriptor import compressed_word
from cowherd.formats.qcow2.entries import data_word
from cowherd.formats.qcow2.image import Qcow2, open_qcow2
from cowherd.formats.qcow2.metadata import Metadata
from cowherd.storage.hostfile import HostFile
from tests.images import KIB, MIB, Features, create_with_cowherd

CLUSTER = 64 * KIB
PLAIN = Features()


def opened(path: Path, features: Features = PLAIN) -> tuple[Qcow2, Metadata]:
    """A new image, open for writing."""
    image = open_qcow2(create_with_cowherd(path / "image.qcow2", features, MIB), writable=True)
    return image, image._changer().metadata


def written_places(image: Qcow2, monkeypatch: pytest.MonkeyPatch) -> list[int | str]:
    """A list that fills with the file offset of each write, and "flush" for each flush, from now on."""
    log: list[int | str] = []
    original = HostFile.pwritev

    def pwritev(file: HostFile, offset: int, buffers: object) -> None:
        log.append(offset)
        original(file, offset, buffers)

    monkeypatch.setattr(HostFile, "pwritev", pwritev)
    monkeypatch.setattr(HostFile, "flush", lambda file: log.append("flush"))
    return log


def test_a_flush_writes_refcounts_then_l2_then_l1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    image, metadata = opened(tmp_path)
    with image:
        image.write(0, memoryview(b"x"), None)
        log = written_places(image, monkeypatch)
        metadata.flush()
        block, table = int(metadata.refcounts.table[0]), metadata.tables.l2_offset(0)
        assert log == [block, "flush", table, "flush", image.header.l1_table_offset, "flush"]


def test_refcounts_go_down_after_everything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    image, metadata = opened(tmp_path)
    with image:
        image.write(0, memoryview(b"x"), None)
        metadata.flush()
        image.discard(0, CLUSTER, None)
        log = written_places(image, monkeypatch)
        metadata.flush()
        assert log == ["flush", metadata.tables.l2_offset(0), "flush", int(metadata.refcounts.table[0])]


def test_a_new_refcount_block_is_durable_before_the_table_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    image, metadata = opened(tmp_path, Features(512, refcount_bits=64))
    with image:
        image.write(0, memoryview(bytes(range(256)) * 128), None)  # 32 KiB, more than one block counts
        log = written_places(image, monkeypatch)
        metadata.flush()
        entry = image.header.refcount_table_offset + 8
        first_flush = log.index("flush")
        assert int(metadata.refcounts.table[1]) in log[:first_flush]
        assert entry in log[first_flush : log.index("flush", first_flush + 1)]


def test_large_changes_are_flushed_before_they_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metadata_module, "DIRTY_LIMIT_BYTES", 4 * KIB)
    image, metadata = opened(tmp_path, Features(512))
    with image:
        for guest in range(0, MIB, 32 * KIB):  # an L2 table each
            image.write(guest, memoryview(b"x"), None)
            assert metadata.tables.dirty_bytes + metadata.refcounts.dirty_bytes <= 6 * KIB


def test_freed_clusters_count_until_the_flush(tmp_path: Path):
    image, metadata = opened(tmp_path)
    with image:
        host, _ = metadata.allocate(2)
        metadata.free(host, 2)
        assert metadata.refcounts.count(host // CLUSTER) == 1
        metadata.flush()
        assert metadata.refcounts.count(host // CLUSTER) == 0


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 600)), min_size=1, max_size=20))
def test_counts_fall_once_for_each_reference_that_is_gone(tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[int, int]]):
    # A block of 512 bytes counts 256 clusters, so that runs cross blocks.
    image, metadata = opened(tmp_path_factory.mktemp("image"), Features(512))
    with image:
        first = metadata.refcounts.allocate_run(4000)
        references = Counter(first + cluster for start, length in runs for cluster in range(start, start + length))
        for cluster, number in references.items():
            metadata.refcounts.change(cluster, 1, number)
        pairs = np.array([[first + start, first + start + length] for start, length in runs], np.int64)
        assert len(metadata.refcounts.decrease(pairs)) == 0
        assert {metadata.refcounts.count(cluster) for cluster in references} == {1}
        unused = metadata.refcounts.decrease(np.unique(pairs, axis=0)[:1])
        assert [unused[0, 0], unused[-1, 1]] == np.unique(pairs, axis=0)[0].tolist()


def test_more_references_gone_than_counted_are_corruption(tmp_path: Path):
    image, metadata = opened(tmp_path)
    with image:
        host, _ = metadata.allocate(1)
        run = [host // CLUSTER, host // CLUSTER + 1]
        with pytest.raises(ImageCorrupt, match="contradicts"):
            metadata.refcounts.decrease(np.array([run, run], np.int64))
        with pytest.raises(ImageCorrupt, match="no refcount"):
            metadata.refcounts.decrease(np.array([[1 << 40, (1 << 40) + 1]], np.int64))


def test_all_host_clusters_of_an_entry_are_given_back(tmp_path: Path):
    image, metadata = opened(tmp_path)
    with image:
        host, _ = metadata.allocate(4)
        across = compressed_word(host + CLUSTER - 100, 1000, 16)
        metadata.free_words(np.array([across, data_word(host + 2 * CLUSTER), 0, 1, data_word(host + 3 * CLUSTER)], np.uint64))
        metadata.flush()
        assert [metadata.refcounts.count(host // CLUSTER + number) for number in range(4)] == [0, 0, 0, 0]


@pytest.mark.parametrize("table", ["header", "L1", "L2", "refcount table", "refcount block"])
def test_a_table_that_counts_as_free_is_not_given_away(table: str, tmp_path: Path):
    image, metadata = opened(tmp_path)
    with image:
        image.write(0, memoryview(b"x"), None)
        place = {
            "header": 0,
            "L1": image.header.l1_table_offset,
            "L2": metadata.tables.l2_offset(0),
            "refcount table": image.header.refcount_table_offset,
            "refcount block": int(metadata.refcounts.table[0]),
        }[table]
        metadata.refcounts.change(place // CLUSTER, 1, -1)
        with pytest.raises(ImageCorrupt, match="overlaps"):
            metadata.allocate(1)


def test_the_clusters_of_a_table_that_moved_may_be_used_again(tmp_path: Path):
    image, metadata = opened(tmp_path, Features(512))
    with image:
        image.write(0, memoryview(b"x" * 40 * KIB), None)
        old = metadata.tables.l2_offset(0)
        metadata.refuse_overlap(MIB, 512)
        image.deallocate_all()
        metadata.flush()
        metadata.refuse_overlap(old, 512)


def test_compressed_data_fills_a_cluster_before_it_takes_the_next(tmp_path: Path):
    image, metadata = opened(tmp_path)
    with image:
        first = metadata.allocate_bytes(CLUSTER - 100)
        assert metadata.allocate_bytes(100) == first + CLUSTER - 100
        assert metadata.allocate_bytes(100) // CLUSTER != first // CLUSTER
        assert metadata.refcounts.count(first // CLUSTER) == 2


def test_compressed_data_takes_another_cluster_where_the_count_is_full(tmp_path: Path):
    image, metadata = opened(tmp_path, Features(refcount_bits=1))
    with image:
        assert metadata.allocate_bytes(100) // CLUSTER != metadata.allocate_bytes(100) // CLUSTER


def test_the_refcount_table_is_durable_before_an_l2_table_leads_to_what_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    image, metadata = opened(tmp_path, Features(512, refcount_bits=64))
    with image:
        image.write(0, memoryview(bytes(range(256)) * 128), None)
        log = written_places(image, monkeypatch)
        metadata.flush()
        entry = log.index(image.header.refcount_table_offset + 8)
        tables = {metadata.tables.l2_offset(index) for index in range(metadata.header.l1_size)} - {0}
        first_l2 = min(log.index(place) for place in tables)
        assert "flush" in log[entry:first_l2]
