"""Tables that are one run, and the reading of many clusters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd import extents as ext
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.create import new_header
from cowherd.formats.qcow2.entries import data_word, decode
from cowherd.formats.qcow2.header import Header
from cowherd.formats.qcow2.linear_tables import ClusterReader, steady_tables, whole_tables
from cowherd.formats.qcow2.options import Qcow2Options
from cowherd.storage.hostfile import HostFile

CLUSTER = 512
ENTRIES = CLUSTER // 8
FLAGS = [0, layout.COPIED, 1, layout.COPIED | 1, layout.COMPRESSED_FLAG, 1 << 56, 2, 256, 7 << 59]


def header(version: int = 3, *, extended: bool = False) -> Header:
    if extended:
        return new_header(1 << 30, Qcow2Options(cluster_size=16384, extended_l2=True))
    return new_header(1 << 20, Qcow2Options(cluster_size=CLUSTER, version=version))


def ramp(first: int, entries: int = ENTRIES) -> list[int]:
    return [(first + at * CLUSTER) % (1 << 64) for at in range(entries)]


tables = st.builds(
    lambda cluster, flags, change: [
        (word + change[1]) % (1 << 64) if at == change[0] else word for at, word in enumerate(ramp(cluster * CLUSTER | flags))
    ],
    st.integers(0, 5) | st.integers((1 << 47) - ENTRIES, (1 << 47) - 1),
    st.sampled_from(FLAGS),
    st.tuples(st.integers(-1, ENTRIES - 1), st.sampled_from([1, CLUSTER, layout.COPIED, 0])),
)


@given(st.lists(tables, min_size=1, max_size=4), st.sampled_from([2, 3]))
def test_a_steady_table_has_the_extents_of_its_entries(rows: list[list[int]], version: int):
    words = np.array(rows, np.uint64)
    for row in np.flatnonzero(steady_tables(words, header(version))).tolist():
        whole = whole_tables(words[row : row + 1, 0], 7 << 20, header(version))
        assert whole.tolist() == decode(words[row][:, None], 7 << 20, header(version)).tolist()


def test_tables_of_adjacent_clusters_are_steady():
    words = np.array([ramp(data_word(4096 * CLUSTER)), ramp(9 * CLUSTER), ramp(data_word(CLUSTER) | 1)], np.uint64)
    assert steady_tables(words, header()).all()


@pytest.mark.parametrize("at", [0, 1, ENTRIES // 2, ENTRIES - 1])
def test_one_entry_that_is_otherwise_makes_a_table_unsteady(at: int):
    words = np.array([ramp(data_word(4096 * CLUSTER))] * 3, np.uint64)
    words[1, at] += np.uint64(CLUSTER)
    assert steady_tables(words, header()).tolist() == [True, False, True]


@pytest.mark.parametrize("first", [0, CLUSTER // 2, layout.COMPRESSED_FLAG | CLUSTER, layout.COPIED, 2 | CLUSTER, 1 << 56])
def test_what_breaks_the_specification_or_is_no_plain_cluster_is_not_called_steady(first: int):
    assert not steady_tables(np.array([ramp(first)], np.uint64), header()).any()


def test_zero_clusters_are_steady_in_version_3_only():
    words = np.array([ramp(CLUSTER | 1)], np.uint64)
    assert steady_tables(words, header()).all()
    assert whole_tables(words[:, 0], 0, header())["kind"].tolist() == [ext.ZERO]
    assert not steady_tables(words, header(2)).any()


def test_no_table_of_extended_entries_is_steady():
    extended = header(extended=True)
    words = np.arange(1, extended.l2_entries + 1, dtype=np.uint64)[None, :] * np.uint64(extended.cluster_size)
    assert not steady_tables(words, extended).any()


def test_clusters_come_in_the_order_asked_for_and_what_is_not_there_is_zeros(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(bytes([1]) * CLUSTER + bytes([2]) * CLUSTER + bytes([3]) * CLUSTER + bytes([4]) * 100)
    with HostFile.open(path, lock=None) as file:
        reader = ClusterReader(file, 8, CLUSTER)
        reader.read(np.full(8, 0))
        found = reader.read(np.array([CLUSTER, 2 * CLUSTER, 0, -1, 3 * CLUSTER, 1 << 40, 100]))
    assert [row[0] for row in found.tolist()] == [2, 3, 1, 0, 4, 0, 1]
    assert [row[-1] for row in found.tolist()] == [2, 3, 1, 0, 0, 0, 2]
    assert found[:, 0].tolist() == [2, 3, 1, 0, 4, 0, 1]


def test_neighbours_in_the_file_come_with_one_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "file"
    path.write_bytes(bytes(10 * CLUSTER))
    asked: list[tuple[int, int]] = []
    real = HostFile.preadinto

    def counting(file: HostFile, offset: int, buffer: memoryview) -> None:
        asked.append((offset, buffer.nbytes))
        real(file, offset, buffer)

    monkeypatch.setattr(HostFile, "preadinto", counting)
    with HostFile.open(path, lock=None) as file:
        ClusterReader(file, 4, CLUSTER).read(np.array([CLUSTER, 2 * CLUSTER, 3 * CLUSTER, 0]))
    assert asked == [(CLUSTER, 3 * CLUSTER), (0, CLUSTER)]
