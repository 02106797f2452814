"""A new image built front to back: every cluster of the disk is mapped, in one piece or in several."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from cowherd.formats.qcow2 import builder
from cowherd.formats.qcow2.builder import Builder
from cowherd.formats.qcow2.compression import codec
from cowherd.formats.qcow2.create import new_header
from cowherd.formats.qcow2.options import Qcow2Options
from cowherd.storage.hostfile import HostFile
from tests import qemu
from tests.images import assert_sound

CLUSTER = 512
PER_TABLE = CLUSTER // 8
SIZE = 100 * PER_TABLE * CLUSTER + 5 * CLUSTER

PIECES = {
    "in one piece": [100 * PER_TABLE + 5],
    "from inside a table": [7, 99 * PER_TABLE + 57, 5],
    "whole tables": [PER_TABLE, 98 * PER_TABLE, PER_TABLE, 5],
    "table by table": [PER_TABLE] * 100 + [5],
}


@pytest.mark.parametrize("bits", [1, 8, 16, 64])
@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES)
def test_every_cluster_is_mapped_to_the_place_that_was_told(
    tmp_path: Path, qemu_img: qemu.Tool, monkeypatch: pytest.MonkeyPatch, pieces: list[int], bits: int
):
    monkeypatch.setattr(builder, "_ENTRIES_AT_ONCE", 16 * PER_TABLE)
    monkeypatch.setattr(builder, "_COUNTS_AT_ONCE", 2000)
    path, told, done = tmp_path / "image.qcow2", [], 0
    with HostFile.create(path) as file:
        build = Builder(file, new_header(SIZE, Qcow2Options(cluster_size=CLUSTER, refcount_bits=bits)))
        for number in pieces:
            host = build.place_data(done, number)
            told += [host + at * CLUSTER for at in range(number)]
            done += number
        build.finish()
    assert_sound(path)
    shown = []
    for row in json.loads(qemu_img("map", "--output=json", "-f", "qcow2", path)):
        shown += [row["offset"] + at for at in range(0, row["length"], CLUSTER)]
    assert shown == told


@pytest.mark.parametrize("extended", [False, True], ids=["plain", "extended"])
def test_clusters_that_lie_apart_are_placed_one_behind_the_other(tmp_path: Path, qemu_img: qemu.Tool, extended: bool):
    cluster = 16384 if extended else CLUSTER
    header = new_header(9 * PER_TABLE * cluster, Qcow2Options(cluster_size=cluster, extended_l2=extended))
    clusters = np.flatnonzero(np.random.default_rng(1).random(9 * PER_TABLE) < 0.4)
    path = tmp_path / "image.qcow2"
    told: dict[int, int] = {}
    with HostFile.create(path) as file:
        build = Builder(file, header)
        for first, end in pairwise([0, 1, 50, len(clusters)]):
            host = build.place([(number, 1) for number in clusters[first:end].tolist()])
            told |= {number: host + at * cluster for at, number in enumerate(clusters[first:end].tolist())}
        build.finish()
    assert_sound(path)
    shown = {}
    for row in json.loads(qemu_img("map", "--output=json", "-f", "qcow2", path)):
        if row["data"]:
            numbers = range(row["start"] // cluster, (row["start"] + row["length"]) // cluster)
            shown |= {number: row["offset"] + at * cluster for at, number in enumerate(numbers)}
    assert shown == told


@pytest.mark.parametrize("longest", [100, 900])
@pytest.mark.parametrize("bits", [1, 2, 16])
def test_packed_clusters_are_read_from_where_they_were_placed(tmp_path: Path, qemu_img: qemu.Tool, bits: int, longest: int):
    cluster, random, packer = 1024, np.random.default_rng(2), codec("zlib")
    half = cluster // 8 // 2
    path, flat = tmp_path / "image.qcow2", bytearray(12 * half * cluster)
    with HostFile.create(path) as file:
        build = Builder(file, new_header(len(flat), Qcow2Options(cluster_size=cluster, refcount_bits=bits)))
        for first in range(0, 12 * half, half):
            clusters = first + np.flatnonzero(random.random(half - 1) < 0.7)
            contents = [random.bytes(int(random.integers(1, longest))).ljust(cluster, b"x") for _ in clusters]
            packed = [packer.compress(content) for content in contents]
            hosts = build.place_packed(clusters.tolist(), [len(data) for data in packed])
            for number, content, host, data in zip(clusters.tolist(), contents, hosts, packed, strict=True):
                file.pwrite(host, data)
                flat[number * cluster : (number + 1) * cluster] = content
            if first % 3 == 0:
                build.place([(first + half - 1, 1)])  # what is packed next begins anew
                flat[(first + half - 1) * cluster : (first + half) * cluster] = bytes(cluster)
        build.finish()
    assert_sound(path)
    (tmp_path / "flat.raw").write_bytes(flat)
    assert "identical" in qemu_img("compare", "-F", "raw", path, tmp_path / "flat.raw")
