"""The outline of a qcow2 image, beside the arrays of `Qcow2.extents` on the same file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cowherd import extents as ext
from cowherd.errors import ImageFormatError
from cowherd.formats.outline import NeedsArrays
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.image import open_qcow2
from cowherd.formats.qcow2.outline import TableOutline
from cowherd.kinds import DATA, ENDLESS
from cowherd.storage.hostfile import HostFile
from tests.formats.qcow2.damaging import Damager
from tests.images import KIB, MIB, Features, changed_by_cowherd, create_with_cowherd, examples, workload

CLUSTER = 512
ENTRIES = CLUSTER // 8
REACH = ENTRIES * CLUSTER
L1 = 3

HOSTS = st.integers(8, 12).map(lambda cluster: cluster * CLUSTER)
WORDS = st.one_of(
    st.just(0),
    st.just(layout.COPIED),
    st.just(layout.ZERO_FLAG),
    HOSTS,
    HOSTS.map(lambda host: host | layout.COPIED),
    HOSTS.map(lambda host: host | layout.COPIED | layout.ZERO_FLAG),
)
RUNS = st.lists(st.tuples(st.integers(1, 9), WORDS), max_size=40)


def outline(path: Path) -> TableOutline:
    return TableOutline(HostFile.open(path))


def merged(rows: list[tuple[int, int, int, int, int]]) -> list[tuple[int, int, int, int, int]]:
    """The rows with neighbours joined that continue each other."""
    return ext.merge(np.array(rows, ext.EXTENT)).tolist()


def assert_same_cover(path: Path, start: int, end: int) -> None:
    with open_qcow2(path) as image:
        expected = ext.merge(image.extents(start, end - start)).tolist()
    plain = outline(path)
    assert merged(plain.rows(start, end)) == expected
    plain.close()


def assert_counted_as_in_rows(path: Path) -> None:
    plain = outline(path)
    rows = plain.rows(0, plain.size)
    told = plain.units_with_data()
    assert told in (None, sum(length // CLUSTER for _, length, _, _, kind in rows if kind == DATA))
    plain.close()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return create_with_cowherd(tmp_path / "image.qcow2", Features(CLUSTER), L1 * REACH)


def with_table(image: Path, index: int, words: list[int]) -> None:
    """Gives L1 entry `index` an L2 table that begins with `words`."""
    damager = Damager(image)
    offset = MIB + index * CLUSTER
    damager.put(damager.l1(index), offset | layout.COPIED)
    damager.put_bytes(offset, np.array((words + [0] * ENTRIES)[:ENTRIES], ">u8").tobytes())


@settings(max_examples=examples(40), deadline=None)
@given(runs=RUNS, tables=st.sets(st.integers(0, L1 - 1)), data=st.data())
def test_any_table_reads_as_its_extents_do(tmp_path_factory: pytest.TempPathFactory, runs, tables: set[int], data: st.DataObject):
    image = create_with_cowherd(tmp_path_factory.mktemp("table") / "image", Features(CLUSTER), L1 * REACH)
    step = [word + number * CLUSTER * bool(word & layout.L2_OFFSET_MASK) for length, word in runs for number in range(length)]
    for index in tables:
        with_table(image, index, step[index * 5 :])
    start = data.draw(st.integers(0, L1 * ENTRIES - 1)) * CLUSTER
    end = data.draw(st.integers(start + 1, L1 * REACH))
    assert_same_cover(image, start, end)
    assert_counted_as_in_rows(image)


@pytest.mark.parametrize("features", [Features(512), Features(), Features(2 * MIB), Features(4 * KIB, version=2)], ids=str)
def test_images_of_every_cluster_size_read_as_their_extents_do(tmp_path: Path, features: Features):
    path = create_with_cowherd(tmp_path / "image", features, features.odd_size)
    changed_by_cowherd(path, workload(1, features, features.odd_size, 20, ("write", "zero", "unmap", "discard")))
    assert_same_cover(path, 0, features.odd_size // 512 * 512)


def test_where_nothing_is_stored_is_told_by_the_first_table_alone(image: Path):
    with_table(image, 1, [])
    plain = outline(image)
    assert [plain.empty_until(start) for start in (0, REACH + 5, 2 * REACH)] == [REACH, REACH + 5, ENDLESS]
    assert plain.table_bytes == CLUSTER


def test_facts_of_the_header_are_those_of_the_image(tmp_path: Path):
    base = create_with_cowherd(tmp_path / "base", Features(), MIB)
    path = create_with_cowherd(tmp_path / "image", Features(4 * KIB), 3 * MIB, backing=base)
    with open_qcow2(path) as image:
        plain = outline(path)
        assert (plain.size, plain.backing, plain.granularity) == (image.size, image.backing, image.granularity)


@pytest.mark.parametrize("word", [layout.COMPRESSED_FLAG, layout.COMPRESSED_FLAG | 4096])
def test_compressed_clusters_have_no_place(image: Path, word: int):
    with_table(image, 0, [word])
    assert outline(image).rows(0, CLUSTER) == [(0, CLUSTER, ext.NOWHERE, 0, ext.COMPRESSED)]
    assert_same_cover(image, 0, REACH)


def test_what_breaks_the_specification_is_left_to_the_full_reader(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image", Features(), MIB)
    damager = Damager(path)
    damager.put(damager.l1(0), MIB)
    damager.put_bytes(MIB, (512).to_bytes(8, "big") + bytes(65528))
    with open_qcow2(path) as image, pytest.raises(ImageFormatError):
        image.extents(0, MIB)
    with pytest.raises(NeedsArrays):
        outline(path).rows(0, MIB)


def test_an_l2_table_that_begins_inside_a_cluster_is_left_to_the_full_reader(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image", Features(), MIB)
    damager = Damager(path)
    damager.put(damager.l1(0), 512)
    with pytest.raises(NeedsArrays):
        outline(path)


def test_zero_clusters_of_version_2_are_left_to_the_full_reader(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image", Features(version=2), MIB)
    damager = Damager(path)
    damager.put(damager.l1(0), MIB)
    damager.put_bytes(MIB, (1).to_bytes(8, "big") + bytes(65528))
    with pytest.raises(NeedsArrays):
        outline(path).rows(0, MIB)


def test_extended_l2_entries_are_left_to_the_full_reader(tmp_path: Path):
    path = create_with_cowherd(tmp_path / "image", Features(extended_l2=True), MIB)
    with pytest.raises(NeedsArrays):
        outline(path)


def test_a_run_whose_flags_change_by_counting_on_is_left_to_the_full_reader(image: Path):
    """Offsets that count on into the reserved bits are no run, however they look."""
    last = layout.L2_OFFSET_MASK & ~(CLUSTER - 1)
    with_table(image, 0, [last, last + CLUSTER])
    with pytest.raises(NeedsArrays):
        outline(image).rows(0, REACH)


def test_few_decoded_tables_are_kept(image: Path):
    for index in range(L1):
        with_table(image, index, [layout.ZERO_FLAG])
    plain = outline(image)
    rows = plain.rows(0, L1 * REACH)
    assert [row[4] for row in rows] == [ext.ZERO, ext.BACKING] * L1
    assert len(plain._decoded) < L1


def test_clusters_with_data_are_counted_without_rows(image: Path):
    with_table(image, 0, [9 * CLUSTER | layout.COPIED, 0, 8 * CLUSTER | layout.COPIED, 12 * CLUSTER])
    with_table(image, 2, [10 * CLUSTER | layout.COPIED] * 1)
    plain = outline(image)
    assert plain.units_with_data() == 4
    plain.close()


@pytest.mark.parametrize(
    "word", [layout.COPIED, layout.ZERO_FLAG, 8 * CLUSTER | layout.ZERO_FLAG | layout.COPIED, 1 << 62, 8 * CLUSTER + 2]
)
def test_only_rows_tell_of_other_entries(image: Path, word: int):
    with_table(image, 0, [9 * CLUSTER | layout.COPIED, word])
    plain = outline(image)
    assert plain.units_with_data() is None
    plain.close()


def test_entries_behind_the_end_of_the_disk_are_no_data(tmp_path: Path):
    image = create_with_cowherd(tmp_path / "short", Features(CLUSTER), REACH // 2 + 100)
    with_table(image, 0, [(8 + number) * CLUSTER | layout.COPIED for number in range(ENTRIES)])
    plain = outline(image)
    assert plain.units_with_data() == ENTRIES // 2 + 1
    plain.close()
