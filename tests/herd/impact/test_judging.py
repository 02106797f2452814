"""All dependents of a base at once: each verdict is what laying out its whole chain says."""

from __future__ import annotations

import random

import pytest

from cowherd.extents import ranges
from cowherd.herd.impact import judging
from cowherd.herd.impact.judging import judge_all
from cowherd.herd.impact.verdict import hit_to_json, judge
from cowherd.herd.lineage.survey import survey
from cowherd.image.disk import Disk
from cowherd.image.open import open_disk
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import WRITE
from tests.herd.qemu_herd import make_base, make_overlay, noise, qemu_img
from tests.snapshots import Chance

MIB = 1 << 20
CHANGED = ranges([(0, 65536), (3 * 65536, 6 * 65536), (MIB - 65536, MIB + 4 * 65536), (3 * MIB, 4 * MIB)])


def both_ways(folder) -> tuple[list[dict], list[dict]]:
    """What all dependents at once, and each alone, are said to be."""
    lineage = survey([folder])
    base = lineage.find(folder / "base.qcow2")
    overlays = lineage.dependents(base)
    together = [hit_to_json(hit) for hit in judge_all(lineage, overlays, base, CHANGED)]
    return together, [hit_to_json(judge(overlay, base, CHANGED)) for overlay in overlays]


@pytest.fixture
def base(tmp_path):
    return make_base(tmp_path / "base.qcow2", noise(2 * MIB))


@pytest.mark.parametrize("seed", range(4))
def test_a_tree_of_layers_of_all_sizes_is_judged_as_each_chain_alone(base, seed):
    chosen = random.Random(seed)
    names = ["base"]
    for number in range(9):
        below = chosen.choice(names[-4:])
        name = chosen.choice("abc") + str(number)
        path = make_overlay(base.with_name(f"{name}.qcow2"), f"{below}.qcow2", size=chosen.choice([1, 2, 2, 4]) * MIB)
        with open_disk(path, format="qcow2", writable=True) as disk:
            for _ in range(chosen.choice([0, 0, 1, 3])):
                start = chosen.randrange(disk.size // 32768) * 32768
                disk.write(start, b"x" * min(chosen.choice([512, 65536, 200_000]), disk.size - start))
            disk.flush()
        names.append(name)
    together, alone = both_ways(base.parent)
    assert together == alone
    assert any(hit["exposed"] for hit in together)
    assert any(hit["shielded"] for hit in together)


def test_an_overlay_of_one_that_cannot_be_read_has_the_reason_too(base):
    middle = make_overlay(base.with_name("middle.qcow2"), base.name)
    make_overlay(base.with_name("leaf.qcow2"), middle.name)
    with HostFile.open(middle, writable=True, lock=WRITE):
        together, alone = both_ways(base.parent)
    assert together == alone
    assert [hit["verdict"] for hit in together] == ["unreadable", "unreadable"]


def test_a_layer_that_its_overlay_reads_as_raw_counts_as_raw(base):
    middle = make_overlay(base.with_name("middle.qcow2"), base.name)
    leaf = make_overlay(base.with_name("leaf.qcow2"), middle.name)
    qemu_img("rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", middle.name, leaf)
    together, alone = both_ways(base.parent)
    assert together == alone


def test_each_image_is_opened_once_however_deep_the_chain(base, monkeypatch):
    below = base
    for number in range(9):
        below = make_overlay(base.with_name(f"layer{number}.qcow2"), below.name)
    opened: list[int] = []

    def counting(*words, **options) -> Disk:
        disk = open_disk(*words, **options)
        opened.append(len(disk.layers))
        return disk

    monkeypatch.setattr(judging, "open_disk", counting)
    lineage = survey([base.parent])
    found = lineage.find(base)
    assert len(judge_all(lineage, lineage.dependents(found), found, CHANGED)) == 9
    assert opened == [1] * 9


@pytest.mark.parametrize("seed", [0, 1, 3, 5])
def test_snapshots_of_all_sizes_are_judged_as_each_chain_alone(tmp_path, seed):
    Chance(random.Random(seed)).chain(tmp_path, "abcd")
    (tmp_path / "a.qcow2").rename(tmp_path / "base.qcow2")
    qemu_img("rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "base.qcow2", tmp_path / "b.qcow2")
    together, alone = both_ways(tmp_path)
    assert together == alone
    assert all(hit["snapshots"] for hit in together)
    assert any(one["exposed"] for hit in together for one in hit["snapshots"])


def test_an_image_with_snapshots_is_opened_once(base, monkeypatch):
    below = base
    for number in range(4):
        below = make_overlay(base.with_name(f"layer{number}.qcow2"), below.name)
        qemu_img("snapshot", "-c", "one", below)
        qemu_img("snapshot", "-c", "two", below)
    opened: list[int] = []

    def counting(*words, **options) -> Disk:
        disk = open_disk(*words, **options)
        opened.append(len(disk.layers))
        return disk

    monkeypatch.setattr(judging, "open_disk", counting)
    lineage = survey([base.parent])
    found = lineage.find(base)
    hits = judge_all(lineage, lineage.dependents(found), found, CHANGED)
    assert [len(hit.snapshots) for hit in hits] == [2] * 4
    assert opened == [1] * 4


def test_a_snapshot_smaller_than_what_it_stands_on_sees_only_a_part_of_that(base):
    middle = make_overlay(base.with_name("middle.qcow2"), base.name)
    with open_disk(middle, format="qcow2", writable=True) as disk:
        disk.write(MIB + 512 * 1024, b"x" * 65536)  # behind the end of the snapshot: nothing that it holds itself
    leaf = make_overlay(base.with_name("leaf.qcow2"), middle.name, size=MIB)
    qemu_img("snapshot", "-c", "small", leaf)
    qemu_img("resize", "-q", leaf, 2 * MIB)
    together, alone = both_ways(base.parent)
    assert together == alone
    hit = next(hit for hit in together if hit["path"] == str(leaf))
    assert (hit["verdict"], hit["snapshots"][0]["verdict"]) == ("torn", "synchronised")
