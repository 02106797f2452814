"""The two levels of tables: covers of any range, against a picture of the disk kept cluster by cluster."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cowherd import extents as ext
from cowherd.errors import ImageFormatError
from cowherd.formats.qcow2 import cache, layout, tables
from cowherd.formats.qcow2.entries import data_word
from cowherd.formats.qcow2.header import Header, read_header
from cowherd.formats.qcow2.state import ImageState
from cowherd.formats.qcow2.tables import Tables, l2_offsets, read_l1
from cowherd.image.open import open_disk
from cowherd.storage.hostfile import HostFile
from tests.formats.qcow2.damaging import Damager
from tests.images import Features, create_with_cowherd

CLUSTER = 512
ENTRIES = CLUSTER // 8
REACH = ENTRIES * CLUSTER
L1 = 12

Cluster = tuple[int, int]
"""The host offset (-1: none) and kind of one guest cluster."""


def opened(path: Path, *, writable: bool = False) -> Tables:
    file = HostFile.open(path, writable=writable)
    return Tables(ImageState(file, read_header(file)))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return create_with_cowherd(tmp_path / "image.qcow2", Features(CLUSTER), L1 * REACH)


def mapped(image: Path, words: dict[int, int], order: list[int]) -> list[Cluster]:
    """Writes L2 tables that hold `words` by guest cluster, the tables in the file in the `order` given; returns the picture."""
    damager = Damager(image)
    for place, index in enumerate(order):
        offset = (1 << 20) + place * CLUSTER
        damager.put(damager.l1(index), offset | layout.COPIED)
        table = [words.get(index * ENTRIES + entry, 0) for entry in range(ENTRIES)]
        damager.put_bytes(offset, np.array(table, ">u8").tobytes())
    return [_picture(words.get(cluster, 0) if cluster // ENTRIES in order else 0) for cluster in range(L1 * ENTRIES)]


def _picture(word: int) -> Cluster:
    if word & layout.COMPRESSED_FLAG:
        return -1, ext.COMPRESSED
    host = word & layout.L2_OFFSET_MASK or -1
    return host, ext.ZERO if word & 1 else ext.DATA if host > 0 else ext.BACKING


words = st.one_of(
    st.integers(4096, 4100).map(lambda cluster: data_word(cluster * CLUSTER)),
    st.sampled_from([1, data_word(4096 * CLUSTER) | 1, layout.COMPRESSED_FLAG | 12345]),
)
guest_words = st.one_of(
    st.dictionaries(st.integers(0, L1 * ENTRIES - 1), words, max_size=30),
    st.integers(0, L1 * ENTRIES - 200).map(lambda at: {at + i: data_word((4096 + i) * CLUSTER) for i in range(200)}),
)


@settings(max_examples=60)
@given(guest_words, st.sets(st.integers(0, L1 - 1)), st.randoms(), st.data())
def test_extents_are_those_of_the_clusters_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, words: dict[int, int], used: set[int], random, data: st.DataObject
):
    path = create_with_cowherd(tmp_path_factory.getbasetemp() / "tables.qcow2", Features(CLUSTER), L1 * REACH)
    order = random.sample(sorted(used), len(used))
    picture = mapped(path, words, order)
    start = data.draw(st.integers(0, L1 * REACH - 1))
    length = data.draw(st.integers(1, L1 * REACH - start))
    found = opened(path)
    with found.file:
        cover = found.extents(start, length)
    position = start
    for at, span, host, depth, kind in cover.tolist():
        assert (at, depth) == (position, 0)
        position += span
        for byte in {at, at + span - 1, *range(-(-at // CLUSTER) * CLUSTER, at + span, CLUSTER)}:
            place, expected = picture[byte // CLUSTER]
            assert kind == expected
            assert (host + byte - at if host != -1 else -1) == (place + byte % CLUSTER if place != -1 else -1)
    assert position == start + length
    assert len(ext.merge(cover)) == len(cover)


@settings(max_examples=60)
@given(guest_words, st.sets(st.integers(0, L1 - 1)), st.randoms())
def test_the_place_of_a_small_range_is_that_of_its_cluster(
    tmp_path_factory: pytest.TempPathFactory, words: dict[int, int], used: set[int], random
):
    path = create_with_cowherd(tmp_path_factory.getbasetemp() / "places.qcow2", Features(CLUSTER), L1 * REACH)
    picture = mapped(path, words, random.sample(sorted(used), len(used)))
    found = opened(path)
    with found.file:
        for cluster, (host, kind) in enumerate(picture):
            expected = None if kind == ext.COMPRESSED else (host + 7 if kind == ext.DATA else host, kind)
            assert found.place(cluster * CLUSTER + 7, CLUSTER - 7) == expected
            assert found.place(cluster * CLUSTER + 7, CLUSTER) is None


def test_an_empty_range_has_no_extents(image: Path):
    found = opened(image)
    with found.file:
        assert len(found.extents(1000, 0)) == 0


def test_a_terabyte_without_tables_is_one_extent(tmp_path: Path):
    found = opened(create_with_cowherd(tmp_path / "image.qcow2", Features(), 1 << 40))
    with found.file:
        assert found.extents(0, 1 << 40).tolist() == [(0, 1 << 40, ext.NOWHERE, 0, ext.BACKING)]
        assert found.l2(0) is None


@pytest.mark.parametrize("group", [1, ENTRIES, 5 * ENTRIES])
def test_the_size_of_the_groups_that_are_decoded_does_not_show(image: Path, monkeypatch: pytest.MonkeyPatch, group: int):
    mapped(image, {at: data_word((5000 + at) * CLUSTER) for at in range(L1 * ENTRIES)}, list(range(L1)))
    monkeypatch.setattr(tables, "_GROUP_CLUSTERS", group)
    found = opened(image)
    with found.file:
        assert found.extents(0, L1 * REACH).tolist() == [(0, L1 * REACH, 5000 * CLUSTER, 0, ext.DATA)]


def test_an_entry_inside_a_cluster_is_refused(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image.qcow2", Features(), 1 << 30)
    damager = Damager(path)
    damager.put(damager.l1(0), 1 << 20)
    damager.put((1 << 20) + 8 * 3, (1 << 21) + 512)
    found = opened(path)
    with found.file, pytest.raises(ImageFormatError, match="guest offset 0x30000"):
        found.extents(0, 1 << 20)
    with open_disk(path) as disk, pytest.raises(ImageFormatError, match="guest offset 0x30000"):
        disk.read(0x30000, 512)


def test_an_l1_entry_inside_a_cluster_is_refused(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image.qcow2", Features(), 1 << 30)
    damager = Damager(path)
    damager.put(damager.l1(1), (1 << 20) + 512)
    with HostFile.open(path) as file, pytest.raises(ImageFormatError, match="L1 entry 1"):
        Tables(ImageState(file, read_header(file)))


def test_a_table_past_the_end_of_the_file_is_empty(image: Path):
    damager = Damager(image)
    damager.put(damager.l1(3), 1 << 50)
    found = opened(image)
    with found.file:
        assert found.extents(0, L1 * REACH).tolist() == [(0, L1 * REACH, ext.NOWHERE, 0, ext.BACKING)]


def test_changes_are_seen_at_once_and_written_when_asked(image: Path):
    mapped(image, {}, [0, 1])
    found = opened(image, writable=True)
    with found.file:
        found.writable_l2(0)[5, 0] = data_word(4096 * CLUSTER)
        fresh = np.zeros((ENTRIES, 1), np.uint64)
        fresh[0, 0] = data_word(4099 * CLUSTER)
        found.place_l2(3, 1 << 19, fresh)
        assert (found.has_dirty_l2, found.has_dirty_l1, found.dirty_bytes) == (True, True, 2 * CLUSTER)
        data = ext.of_kind(found.extents(0, L1 * REACH), ext.DATA)["start"].tolist()
        assert data == [5 * CLUSTER, 3 * REACH]
        before = opened(image)
        with before.file:
            assert not len(ext.of_kind(before.extents(0, L1 * REACH), ext.DATA))
        found.write_l2()
        found.write_l1()
        assert not found.has_dirty_l2
        assert not found.has_dirty_l1
    again = opened(image)
    with again.file:
        assert ext.of_kind(again.extents(0, L1 * REACH), ext.DATA)["start"].tolist() == data
        assert again.owns_l2(3)
        assert again.l2_offset(3) == 1 << 19


def test_a_table_that_is_forgotten_is_read_again(image: Path):
    mapped(image, {1: data_word(4096 * CLUSTER)}, [0])
    found = opened(image, writable=True)
    with found.file:
        offset = found.l2_offset(0)
        found.writable_l2(0)[1, 0] = 0
        assert not len(ext.of_kind(found.extents(0, REACH), ext.DATA))
        found.forget(offset)
        assert len(ext.of_kind(found.extents(0, REACH), ext.DATA)) == 1


def test_a_changed_table_shows_among_others_that_are_read_together(image: Path):
    mapped(image, {at: data_word((5000 + at) * CLUSTER) for at in range(L1 * ENTRIES)}, list(range(L1)))
    found = opened(image, writable=True)
    with found.file:
        found.writable_l2(4)[:, 0] = 1
        kinds = found.extents(0, L1 * REACH)
        assert kinds["kind"].tolist() == [ext.DATA, ext.ZERO, ext.DATA]
        assert kinds["start"].tolist() == [0, 4 * REACH, 5 * REACH]


def test_the_cache_keeps_no_more_than_it_may(image: Path, monkeypatch: pytest.MonkeyPatch):
    mapped(image, {}, list(range(L1)))
    monkeypatch.setattr(cache, "CACHE_BYTES", 3 * CLUSTER)
    found = opened(image)
    with found.file:
        read: list[int] = []
        original = found._read
        monkeypatch.setattr(found, "_read", lambda offset: read.append(offset) or original(offset))
        for index in (*range(L1), *range(L1 - 1, -1, -1)):
            found.l2(index)
        again = [found.l2_offset(index) for index in range(L1 - 4, -1, -1)]
        assert read == [*(found.l2_offset(index) for index in range(L1)), *again]


def test_threads_may_ask_for_extents_at_once(image: Path, monkeypatch: pytest.MonkeyPatch):
    picture = mapped(image, {at: data_word((5000 + at * 2) * CLUSTER) for at in range(L1 * ENTRIES)}, list(range(L1)))
    monkeypatch.setattr(cache, "CACHE_BYTES", 2 * CLUSTER)
    found = opened(image)
    wrong: list[int] = []

    def ask(seed: int) -> None:
        random = np.random.default_rng(seed)
        for cluster in random.integers(0, L1 * ENTRIES, 300).tolist():
            if found.extents(cluster * CLUSTER, CLUSTER)["host"].tolist() != [picture[cluster][0]]:
                wrong.append(cluster)

    with found.file:
        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_an_l1_table_is_read_as_it_is(image: Path):
    with HostFile.open(image) as file:
        header: Header = read_header(file)._replace(l1_size=3)
        file_words = read_l1(file, header.l1_table_offset, 3)
    assert file_words.tolist() == [0, 0, 0]
    assert l2_offsets(np.array([data_word(1 << 30), 0], np.uint64)).tolist() == [1 << 30, 0]
