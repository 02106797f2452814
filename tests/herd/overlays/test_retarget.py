from __future__ import annotations

import os

import pytest

from cowherd.errors import ImageInUse, InvalidRequest, SnapshotsWouldChange
from cowherd.herd.overlays.clone import clone
from cowherd.herd.overlays.retarget import retarget
from cowherd.herd.records.binding import read_binding
from cowherd.herd.records.faults import DriftFound
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.unseal import unseal
from cowherd.herd.seals.verify import verify
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import READ, WRITE
from tests.herd.qemu_herd import content, make_base, make_overlay, noise, qemu_img, write
from tests.snapshots import shown

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20
CONTENT = noise(4 * MIB)


@pytest.fixture
def herd(tmp_path):
    """Two sealed bases that differ in 192 KiB, and overlays `a` and `b` of the first."""
    make_base(tmp_path / "old", CONTENT)
    make_base(tmp_path / "new", CONTENT[:MIB] + noise(192 << 10, 7) + CONTENT[MIB + (192 << 10) :])
    seal(tmp_path / "old")
    seal(tmp_path / "new")
    for name in ("a", "b"):
        clone(tmp_path / "old", tmp_path / name)
        write(tmp_path / name, "write -P 3 64k 10k")
    return tmp_path


def backing(overlay) -> str | None:
    lines = qemu_img("info", overlay).splitlines()
    return next((line.split(": ")[1].split(" ")[0] for line in lines if line.startswith("backing file:")), None)


def test_overlays_stand_on_the_new_base_and_show_the_same(herd):
    before = content(herd / "a")
    done = retarget([herd / "a", herd / "b"], herd / "new")
    assert [one.base for one in done] == [herd / "new", herd / "new"]
    assert (backing(herd / "a"), content(herd / "a"), content(herd / "b")) == ("new", before, before)
    assert {row.status.value for row in verify(herd=[herd], full=True)} == {"ok"}
    assert read_binding(herd / "a").content_digest == seal(herd / "new").record.content_digest


def test_between_sealed_bases_only_the_blocks_that_differ_are_read_and_written(herd):
    (done,) = retarget([herd / "a"], herd / "new")
    assert (done.read_bytes, done.written_bytes) == (192 << 10, 192 << 10)


def test_a_snapshot_that_shows_where_the_bases_differ_is_in_the_way_before_any_overlay_is_moved(herd):
    qemu_img("snapshot", "-c", "s", herd / "b")
    before = {name: (herd / name).read_bytes() for name in ("a", "b")}
    with pytest.raises(SnapshotsWouldChange, match="'s' of"):
        retarget([herd / "a", herd / "b"], herd / "new")
    assert {name: (herd / name).read_bytes() for name in ("a", "b")} == before


def test_a_snapshot_that_does_not_show_where_the_bases_differ_stays_as_it_is(herd):
    write(herd / "a", f"write -P 3 {MIB} 192k")
    qemu_img("snapshot", "-c", "s", herd / "a")
    write(herd / "a", f"write -P 4 {MIB} 192k")
    before = shown(herd / "a", "s")
    retarget([herd / "a"], herd / "new")
    (herd / "old").unlink()
    assert shown(herd / "a", "s") == before


def test_without_seals_everything_is_read_and_only_what_differs_written(herd):
    unseal(herd / "old", force=True)
    before = content(herd / "a")
    (done,) = retarget([herd / "a"], herd / "new")
    assert done.read_bytes > 3 * MIB
    assert done.written_bytes == 192 << 10
    assert content(herd / "a") == before


def test_a_seal_that_does_not_hold_proves_nothing(herd):
    before = content(herd / "a")
    os.utime(herd / "old")
    (done,) = retarget([herd / "a"], herd / "new")
    assert done.read_bytes > 3 * MIB
    assert content(herd / "a") == before


def test_between_bases_of_the_same_content_nothing_is_read(herd):
    qemu_img("convert", "-O", "raw", herd / "old", herd / "twin.raw")
    seal(herd / "twin.raw")
    before = content(herd / "a")
    (done,) = retarget([herd / "a"], herd / "twin.raw")
    assert (done.read_bytes, done.written_bytes) == (0, 0)
    assert (backing(herd / "a"), content(herd / "a")) == ("twin.raw", before)


def test_a_smaller_new_base_keeps_the_end(herd):
    make_base(herd / "small", CONTENT[: 2 * MIB])
    seal(herd / "small")
    before = content(herd / "a")
    retarget([herd / "a"], herd / "small")
    assert content(herd / "a") == before


def test_an_image_without_a_base_can_be_put_on_one(herd):
    make_base(herd / "alone", CONTENT)
    retarget([herd / "alone"], herd / "new")
    assert (backing(herd / "alone"), content(herd / "alone")) == ("new", CONTENT)


def test_what_stands_on_the_overlay_shows_the_same(herd):
    make_overlay(herd / "top", "a")
    before = content(herd / "top")
    retarget([herd / "a"], herd / "new")
    assert content(herd / "top") == before


def test_a_dry_run_changes_nothing(herd):
    before = (herd / "a").read_bytes()
    (done,) = retarget([herd / "a"], herd / "new", dry_run=True)
    assert (done.done, done.written_bytes) == (False, 192 << 10)
    assert (herd / "a").read_bytes() == before


def test_an_overlay_can_not_stand_on_itself(herd):
    make_overlay(herd / "top", "a")
    for onto in ("a", "top"):
        with pytest.raises(InvalidRequest):
            retarget([herd / "a"], herd / onto)


def test_overlays_that_wait_for_their_turn_are_held_until_all_are_done(herd):
    refused = []

    def try_to_open(*_) -> None:
        for name, lock in (("b", READ), ("new", WRITE)):
            with pytest.raises(ImageInUse):
                HostFile.open(herd / name, lock=lock)
            refused.append(name)

    retarget([herd / "a", herd / "b"], herd / "new", progress=try_to_open)
    assert refused
    HostFile.open(herd / "b", lock=WRITE).close()


@pytest.mark.parametrize("most", [0, 1, 2])
def test_more_overlays_than_can_be_held_are_moved_all_the_same(herd, monkeypatch, most):
    monkeypatch.setattr("cowherd.herd.overlays.retarget.MOST_HELD", most)
    before = content(herd / "a"), content(herd / "b")
    retarget([herd / "a", herd / "b"], herd / "new")
    assert (backing(herd / "a"), backing(herd / "b")) == ("new", "new")
    assert (content(herd / "a"), content(herd / "b")) == before


def test_an_overlay_and_what_stands_on_it_move_together(herd):
    make_overlay(herd / "top", "a")
    write(herd / "top", "write -P 4 1M 20k")
    before = content(herd / "a"), content(herd / "top")
    retarget([herd / "a", herd / "top"], herd / "new")
    assert (backing(herd / "a"), backing(herd / "top")) == ("new", "new")
    assert (content(herd / "a"), content(herd / "top")) == before


def test_a_drifted_new_base_is_refused(herd):
    write(herd / "new", "write -P 1 0 64k")
    with pytest.raises(DriftFound):
        retarget([herd / "a"], herd / "new")


def test_an_overlay_with_names_in_several_directories_finds_its_new_base_from_each(herd):
    elsewhere = herd / "deep" / "below"
    elsewhere.mkdir(parents=True)
    (elsewhere / "a").hardlink_to(herd / "a")
    before = content(herd / "a")
    retarget([herd / "a"], herd / "new", herd=[herd])
    assert (backing(herd / "a"), content(herd / "a"), content(elsewhere / "a")) == (str(herd / "new"), before, before)
