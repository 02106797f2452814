"""A new image built front to back: every cluster of the disk is mapped, in one piece or in several."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cowherd.formats.qcow2 import builder
from cowherd.formats.qcow2.builder import Builder
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
