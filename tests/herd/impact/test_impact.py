"""Impact's ranges and verdicts against the truth that QEMU's tools give: which sectors of an overlay show what its base holds."""

from __future__ import annotations

import random
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cowherd.herd.impact.impact import impact
from cowherd.herd.seals.seal import seal
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import WRITE
from tests.herd.qemu_herd import (
    BLOCK,
    blocks_of,
    changed_blocks,
    content,
    exposed_bytes,
    make_base,
    make_overlay,
    noise,
    qemu_img,
    write,
)
from tests.snapshots import Chance, names_of, save_machine

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20


def truth(overlay, base, before, after, scratch, base_format="qcow2") -> tuple[set[int], set[int]]:
    """The blocks of `overlay` that show the change and those that do not, found with QEMU alone."""
    sectors = exposed_bytes(overlay, base, max(len(before), len(after)), scratch, base_format)
    shows = {index * 512 // BLOCK for index, shown in enumerate(sectors) if shown}
    visible = {block for block in changed_blocks(before, after) if block * BLOCK < len(sectors) * 512}
    return visible & shows, visible - shows


def judged(base, overlay, **options):
    found = impact(base, **options)
    return found, next(hit for hit in found.to_json()["overlays"] if hit["path"] == str(overlay))


@pytest.fixture
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("truth")


@pytest.fixture
def sealed(tmp_path):
    base = make_base(tmp_path / "base.qcow2", noise(2 * MIB))
    seal(base)
    return base


def test_an_unchanged_base_has_no_drift_and_its_overlays_are_intact(sealed):
    overlay = make_overlay(sealed.with_name("o.qcow2"), sealed.name)
    found, hit = judged(sealed, overlay)
    assert found.to_json()["changed"] == []
    assert found.changed_bytes == 0
    assert (hit["verdict"], hit["exposed"], hit["shielded"]) == ("intact", [], [])


def test_an_empty_overlay_is_synchronised(sealed):
    overlay = make_overlay(sealed.with_name("o.qcow2"), sealed.name)
    write(sealed, "write -P 7 100k 1k", "write -P 7 1M 128k")
    found, hit = judged(sealed, overlay)
    assert found.to_json()["changed"] == [[65536, 65536], [MIB, 131072]]
    assert found.changed_bytes == 3 * BLOCK
    assert (hit["verdict"], hit["exposed"], hit["shielded"]) == ("synchronised", [[65536, 65536], [MIB, 131072]], [])


def test_an_overlay_with_writes_elsewhere_is_torn(sealed):
    overlay = make_overlay(sealed.with_name("o.qcow2"), sealed.name)
    write(overlay, "write -P 1 0 64k")
    write(sealed, "write -P 7 1M 64k")
    _, hit = judged(sealed, overlay)
    assert (hit["verdict"], hit["exposed"]) == ("torn", [[MIB, BLOCK]])


def test_an_overlay_that_wrote_everywhere_the_base_changed_is_intact(sealed):
    overlay = make_overlay(sealed.with_name("o.qcow2"), sealed.name)
    write(overlay, "write -P 1 1M 64k", "write -z 1088k 64k")
    write(sealed, "write -P 7 1M 128k")
    _, hit = judged(sealed, overlay)
    assert (hit["verdict"], hit["exposed"], hit["shielded"]) == ("intact", [], [[MIB, 2 * BLOCK]])


def test_a_block_that_is_shielded_but_for_one_sector_is_exposed(sealed):
    overlay = make_overlay(sealed.with_name("o.qcow2"), sealed.name, "-o", "cluster_size=512")
    write(overlay, "write -P 1 1M 65024")
    write(sealed, "write -P 7 1M 64k")
    _, hit = judged(sealed, overlay)
    assert (hit["verdict"], hit["exposed"], hit["shielded"]) == ("torn", [[MIB, BLOCK]], [])


def test_zero_clusters_are_writes_of_the_overlays_own(sealed):
    overlay = make_overlay(sealed.with_name("o.qcow2"), sealed.name)
    write(overlay, "write -z 0 64k")
    write(sealed, "write -P 7 1M 64k")
    assert judged(sealed, overlay)[1]["verdict"] == "torn"


def test_an_overlay_of_a_torn_overlay_is_torn_too(sealed):
    middle = make_overlay(sealed.with_name("middle.qcow2"), sealed.name)
    write(middle, "write -P 1 0 64k")
    leaf = make_overlay(sealed.with_name("leaf.qcow2"), middle.name)
    write(sealed, "write -P 7 1M 64k")
    found, hit = judged(sealed, leaf)
    assert hit["verdict"] == "torn"
    assert [overlay.path.name for overlay in found.overlays] == ["leaf.qcow2", "middle.qcow2"]


def test_a_middle_layer_shields_what_stands_on_it(sealed):
    middle = make_overlay(sealed.with_name("middle.qcow2"), sealed.name)
    write(middle, "write -P 1 1M 64k")
    leaf = make_overlay(sealed.with_name("leaf.qcow2"), middle.name)
    write(sealed, "write -P 7 1M 64k")
    assert judged(sealed, leaf)[1]["verdict"] == "intact"


def test_the_last_range_ends_with_the_disk(tmp_path):
    base = make_base(tmp_path / "base.qcow2", noise(MIB + 1024))
    overlay = make_overlay(tmp_path / "o.qcow2", base.name)
    seal(base)
    write(base, "write -P 7 1M 1k")
    found, hit = judged(base, overlay)
    assert found.to_json()["changed"] == [[MIB, 1024]]
    assert hit["exposed"] == [[MIB, 1024]]


def test_a_smaller_overlay_is_told_only_of_what_it_can_see(sealed):
    overlay = make_overlay(sealed.with_name("o.qcow2"), sealed.name, size=MIB + 1536)
    write(sealed, "write -P 7 0 2M")
    _, hit = judged(sealed, overlay)
    assert hit["exposed"] == [[0, MIB + 1536]]


def test_a_base_that_shrank_exposes_the_zeros_past_its_end(sealed):
    overlay = make_overlay(sealed.with_name("o.qcow2"), sealed.name)
    qemu_img("resize", "-q", "--shrink", sealed, "1M")
    found, hit = judged(sealed, overlay)
    assert found.to_json()["changed"] == [[MIB, MIB]]
    assert (hit["verdict"], hit["exposed"]) == ("synchronised", [[MIB, MIB]])


def test_a_base_that_only_grew_shows_nothing_new(sealed):
    overlay = make_overlay(sealed.with_name("o.qcow2"), sealed.name, size=4 * MIB)
    qemu_img("resize", "-q", sealed, "3M")
    found, hit = judged(sealed, overlay)
    assert found.changed_bytes == 0
    assert hit["verdict"] == "intact"


def test_a_short_middle_layer_hides_what_lies_past_its_end(sealed, scratch):
    middle = make_overlay(sealed.with_name("middle.qcow2"), sealed.name, size=MIB)
    leaf = make_overlay(sealed.with_name("leaf.qcow2"), middle.name, size=2 * MIB)
    before = content(sealed)
    write(sealed, "write -P 7 960k 128k")
    _, hit = judged(sealed, leaf)
    exposed, shielded = truth(leaf, sealed, before, content(sealed), scratch)
    assert (blocks_of(hit["exposed"]), blocks_of(hit["shielded"])) == (exposed, shielded) == ({15}, {16})


def test_layers_of_rising_sizes_that_wrote_nothing_are_synchronised(sealed):
    """The zeros between the end of a small layer and that of a large one on it are nobody's writes."""
    middle = make_overlay(sealed.with_name("middle.qcow2"), sealed.name, size=MIB)
    leaf = make_overlay(sealed.with_name("leaf.qcow2"), middle.name, size=4 * MIB)
    write(sealed, "write -P 7 0 2M")
    _, hit = judged(sealed, leaf)
    assert (hit["verdict"], hit["exposed"], hit["shielded"]) == ("synchronised", [[0, MIB]], [[MIB, MIB]])


def test_a_raw_base_is_compared_like_any_other(tmp_path):
    base = make_base(tmp_path / "base.raw", noise(MIB), format="raw")
    overlay = make_overlay(tmp_path / "o.qcow2", base.name, base_format="raw")
    seal(base)
    write(base, "write -P 7 64k 64k", format="raw")
    assert judged(base, overlay)[1]["exposed"] == [[BLOCK, BLOCK]]


def test_an_older_copy_stands_in_for_a_seal(tmp_path):
    base = make_base(tmp_path / "base.qcow2", noise(MIB))
    old = make_base(tmp_path / "old.raw", noise(MIB), format="raw")
    overlay = make_overlay(tmp_path / "o.qcow2", base.name)
    write(base, "write -P 7 64k 64k")
    found, hit = judged(base, overlay, against=old)
    assert found.to_json()["changed"] == hit["exposed"] == [[BLOCK, BLOCK]]


def test_overlays_elsewhere_count_when_their_directory_is_named(sealed, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    overlay = make_overlay(elsewhere / "o.qcow2", sealed)
    assert impact(sealed).overlays == ()
    assert [hit.path for hit in impact(sealed, herd=[elsewhere]).overlays] == [overlay]


def test_an_overlay_that_cannot_be_read_is_named_with_the_reason(sealed):
    overlay = make_overlay(sealed.with_name("o.qcow2"), sealed.name)
    write(sealed, "write -P 7 1M 64k")
    with HostFile.open(overlay, writable=True, lock=WRITE):
        _, hit = judged(sealed, overlay)
    assert hit["verdict"] == "unreadable"
    assert "lock" in hit["problem"]


CLUSTERS = [512, 4096, 65536, 262144, 2 * MIB]
DISK_BYTES = st.integers(1, 3 * MIB // 512).map(lambda sectors: sectors * 512)


def commands(seed: int, size: int) -> list[str]:
    """A few writes and zeroings within a disk of `size` bytes, in sectors."""
    choose = random.Random(seed)
    chosen = []
    for _ in range(choose.randrange(4)):
        length = 512 * choose.randrange(1, max(2, min(size, 400000) // 512))
        start = 512 * choose.randrange(0, max(1, (size - length) // 512))
        if start + length <= size:
            chosen.append(choose.choice([f"write -P {choose.randrange(256)} {start} {length}", f"write -z {start} {length}"]))
    return chosen


@settings(max_examples=15)
@given(st.data())
def test_any_chain_is_judged_as_qemu_shows_it(tmp_path_factory, data):
    home, scratch = tmp_path_factory.mktemp("herd"), tmp_path_factory.mktemp("truth")
    base = make_base(
        home / "base.qcow2", noise(data.draw(DISK_BYTES)), "-o", f"cluster_size={data.draw(st.sampled_from(CLUSTERS))}"
    )
    below = base
    for name in data.draw(st.sampled_from([["a"], ["a", "b"], ["a", "b", "c"]])):
        size = data.draw(DISK_BYTES)
        below = make_overlay(home / name, below.name, "-o", f"cluster_size={data.draw(st.sampled_from(CLUSTERS))}", size=size)
        if chosen := commands(data.draw(st.integers(0, 999)), size):
            write(below, *chosen)
    seal(base)
    before = content(base)
    if data.draw(st.booleans()):
        qemu_img("resize", "-q", "--shrink", base, data.draw(DISK_BYTES))
    size = len(content(base))
    if chosen := commands(data.draw(st.integers(0, 999)), size):
        write(base, *chosen)
    after = content(base)
    found = impact(base).to_json()
    assert blocks_of(found["changed"]) == changed_blocks(before, after)
    for hit in found["overlays"]:
        exposed, shielded = truth(home / hit["path"].rsplit("/")[-1], base, before, after, scratch)
        assert blocks_of(hit["exposed"]) == exposed
        assert blocks_of(hit["shielded"]) == shielded
        assert (hit["verdict"] == "intact") == (not exposed)
    shutil.rmtree(home)


def snapshot_truth(image, name, base, before, after, scratch) -> tuple[set[int], set[int]]:
    """What `truth` finds about an image in whose place its snapshot was put."""
    home = scratch / "applied"
    shutil.copytree(image.parent, home)
    qemu_img("snapshot", "-a", name, home / image.name)
    found = truth(home / image.name, home / base.name, before, after, scratch)
    shutil.rmtree(home)
    return found


@pytest.mark.parametrize("seed", range(6))
def test_each_snapshot_of_any_chain_is_judged_as_qemu_shows_it(tmp_path, scratch, seed):
    chance = Chance(random.Random(seed))
    base, *overlays = chance.chain(tmp_path, "abc")
    seal(base)
    before = content(base)
    chance.write(base, 3, patterns=9)
    after = content(base)
    hits = {hit["path"]: hit for hit in impact(base).to_json()["overlays"]}
    for overlay in overlays:
        found = hits[str(overlay)]["snapshots"]
        assert [one["name"] for one in found] == names_of(overlay)
        for one in found:
            exposed, shielded = snapshot_truth(overlay, one["name"], base, before, after, scratch)
            assert (blocks_of(one["exposed"]), blocks_of(one["shielded"])) == (exposed, shielded)
            assert (one["verdict"] == "intact") == (not exposed)


def test_an_overlay_that_is_intact_has_a_torn_snapshot(sealed):
    overlay = make_overlay(sealed.with_name("o.qcow2"), sealed.name)
    write(overlay, "write -P 1 0 64k")
    qemu_img("snapshot", "-c", "before", overlay)
    write(overlay, "write -P 2 1M 64k")
    write(sealed, "write -P 7 1M 64k")
    _, hit = judged(sealed, overlay)
    assert (hit["verdict"], hit["overall"]) == ("intact", "torn")
    assert hit["snapshots"] == [{"id": "1", "name": "before", "verdict": "torn", "exposed": [[MIB, BLOCK]], "shielded": []}]


def test_a_snapshot_of_an_empty_disk_is_torn_if_the_machine_was_saved_with_it(sealed):
    overlay = make_overlay(sealed.with_name("o.qcow2"), sealed.name)
    qemu_img("snapshot", "-c", "disk", overlay)
    save_machine(overlay, "machine")
    write(sealed, "write -P 7 1M 64k")
    _, hit = judged(sealed, overlay)
    assert {one["name"]: one["verdict"] for one in hit["snapshots"]} == {"disk": "synchronised", "machine": "torn"}


def test_a_snapshot_of_a_middle_layer_is_judged_by_its_own_tables_and_the_leaf_by_the_middle_as_it_is(sealed):
    middle = make_overlay(sealed.with_name("middle.qcow2"), sealed.name)
    qemu_img("snapshot", "-c", "before", middle)
    write(middle, "write -P 1 1M 64k")
    leaf = make_overlay(sealed.with_name("leaf.qcow2"), middle.name)
    qemu_img("snapshot", "-c", "before", leaf)
    write(sealed, "write -P 7 1M 64k")
    assert judged(sealed, middle)[1]["overall"] == "synchronised"
    assert judged(sealed, leaf)[1]["overall"] == "intact"


def test_a_snapshot_whose_tables_are_broken_is_unreadable(sealed):
    overlay = make_overlay(sealed.with_name("o.qcow2"), sealed.name)
    write(overlay, "write -P 1 0 64k")
    qemu_img("snapshot", "-c", "before", overlay)
    data = bytearray(overlay.read_bytes())
    table = int.from_bytes(data[64:72], "big")
    data[table : table + 8] = (12345).to_bytes(8, "big")
    overlay.write_bytes(data)
    write(sealed, "write -P 7 1M 64k")
    _, hit = judged(sealed, overlay)
    assert (hit["verdict"], hit["overall"]) == ("torn", "torn")
    assert hit["snapshots"][0]["verdict"] == "unreadable"
    assert "snapshot 1 (before)" in hit["snapshots"][0]["problem"]
