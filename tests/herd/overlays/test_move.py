from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cowherd.errors import HostFileError, ImageInUse, InvalidRequest, NotEnoughSpace
from cowherd.herd.lineage.survey import survey
from cowherd.herd.overlays import move as moving
from cowherd.herd.overlays.clone import clone
from cowherd.herd.overlays.move import move
from cowherd.herd.records.faults import HerdNotReadable
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.verify import verify
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import READ
from cowherd.storage.protection import Protection, unprotect
from tests.herd.killing import killed_before_change
from tests.herd.qemu_herd import content, make_base, make_overlay, noise, qemu_img, write
from tests.herd.refusing import refuse

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20
CONTENT = noise(MIB)
HOLD = """
import sys
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import WRITE
with HostFile.open(sys.argv[1], writable=True, lock=WRITE):
    print(flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def herd(tmp_path):
    """bases/base <- (bases/mid <- vms/top, vms/b); vms is beside bases; base and mid are sealed."""
    (tmp_path / "bases").mkdir()
    (tmp_path / "vms").mkdir()
    make_base(tmp_path / "bases" / "base", CONTENT)
    clone(tmp_path / "bases" / "base", tmp_path / "bases" / "mid")
    write(tmp_path / "bases" / "mid", "write -P 2 0 64k")
    clone(tmp_path / "bases" / "mid", tmp_path / "vms" / "top")
    clone(tmp_path / "bases" / "base", tmp_path / "vms" / "b")
    seal(tmp_path / "bases" / "base", level=Protection.READONLY)
    write(tmp_path / "vms" / "top", "write -P 3 64k 64k")
    write(tmp_path / "vms" / "b", "write -P 4 64k 64k")
    return tmp_path


def test_nothing_moves_while_an_overlay_may_be_there_that_can_not_be_rewritten(herd, monkeypatch):
    with monkeypatch.context() as patched:
        refuse(patched, herd / "vms" / "b")
        with pytest.raises(HerdNotReadable) as refused:
            move(herd / "bases" / "base", herd / "bases" / "new", herd=[herd])
    assert (refused.value.unreadable, refused.value.exit_code) == ((herd / "vms" / "b",), 3)
    assert not (herd / "bases" / "new").exists()
    refuse(monkeypatch, herd / "vms" / "b")
    move(herd / "bases" / "base", herd / "bases" / "new", ignore_unreadable=True, herd=[herd])
    assert backing(herd / "bases" / "mid") == "new"


def contents(herd) -> dict[str, bytes]:
    return {name: content(herd / "vms" / name) for name in ("top", "b")}


def backing(overlay) -> str:
    lines = qemu_img("info", "-U", overlay).splitlines()
    return next(line.split(": ")[1].split(" (")[0] for line in lines if line.startswith("backing file:"))


def statuses(herd) -> set[str]:
    return {row.status.value for row in verify(herd=[herd])}


def test_a_renamed_base_is_named_so_by_its_overlays_and_no_others_change(herd):
    before, top = contents(herd), (herd / "vms" / "top").read_bytes()
    done = move(herd / "bases" / "base", herd / "bases" / "new", herd=[herd])
    assert sorted(overlay.path.name for overlay in done.overlays) == ["b", "mid"]
    assert not (herd / "bases" / "base").exists()
    assert (backing(herd / "bases" / "mid"), backing(herd / "vms" / "b")) == ("new", "../bases/new")
    assert contents(herd) == before
    assert (herd / "vms" / "top").read_bytes() == top


def test_seals_move_along_and_hold(herd):
    move(herd / "bases" / "base", herd / "bases" / "new", herd=[herd])
    assert (herd / "bases" / "new.seal").exists()
    assert not (herd / "bases" / "base.seal").exists()
    assert statuses(herd) == {"ok"}
    assert (herd / "bases" / "new").stat().st_mode & 0o222 == 0


def test_an_overlay_moved_to_another_directory_finds_its_base_and_is_found(herd):
    before = contents(herd)
    (herd / "elsewhere").mkdir()
    move(herd / "bases" / "mid", herd / "elsewhere", herd=[herd])
    assert backing(herd / "elsewhere" / "mid") == "../bases/base"
    assert backing(herd / "vms" / "top") == "../elsewhere/mid"
    assert contents(herd) == before
    assert statuses(herd) == {"ok"}


def test_a_raw_base_moves_too(herd):
    make_base(herd / "bases" / "disk.raw", CONTENT, format="raw")
    make_overlay(herd / "vms" / "r", "../bases/disk.raw", base_format="raw")
    move(herd / "bases" / "disk.raw", herd / "vms" / "r.raw", herd=[herd])
    assert (backing(herd / "vms" / "r"), content(herd / "vms" / "r")) == ("r.raw", CONTENT)


def test_an_overlay_that_came_by_a_symbolic_link_then_names_the_file_itself(herd):
    (herd / "vms" / "link").symlink_to(herd / "bases" / "base")
    make_overlay(herd / "vms" / "l", "link")
    move(herd / "bases" / "base", herd / "bases" / "new", herd=[herd])
    assert content(herd / "vms" / "l") == CONTENT


def test_an_overlay_with_names_in_two_directories_gets_an_absolute_one(herd):
    (herd / "links").mkdir()
    (herd / "links" / "b").symlink_to(herd / "vms" / "b")
    move(herd / "bases" / "base", herd / "bases" / "new", herd=[herd])
    assert backing(herd / "vms" / "b") == os.fspath(herd / "bases" / "new")


def test_what_is_there_is_not_replaced(herd):
    (herd / "bases" / "new").write_bytes(b"precious")
    with pytest.raises(HostFileError):
        move(herd / "bases" / "base", herd / "bases" / "new", herd=[herd])
    assert (herd / "bases" / "new").read_bytes() == b"precious"
    assert backing(herd / "bases" / "mid") == "base"


@pytest.mark.parametrize("target", ["base", "../bases/base"])
def test_moving_onto_itself_makes_no_sense(herd, target):
    with pytest.raises(InvalidRequest):
        move(herd / "bases" / "base", herd / "bases" / target)


@pytest.mark.parametrize("used", ["bases/base", "vms/b"])
def test_nothing_is_changed_while_something_is_in_use(herd, used):
    with HostFile.open(herd / used, lock=READ), pytest.raises(ImageInUse):
        move(herd / "bases" / "base", herd / "bases" / "new", herd=[herd])
    assert not (herd / "bases" / "new").exists()


def test_a_dry_run_tells_what_would_be_done(herd):
    done = move(herd / "bases" / "base", herd / "bases" / "new", dry_run=True, herd=[herd])
    assert (done.target, len(done.overlays), done.copied_bytes) == (herd / "bases" / "new", 2, 0)
    assert not (herd / "bases" / "new").exists()


def test_an_immutable_base_stays_immutable(herd):
    base = herd / "bases" / "base"
    if seal(base, level=Protection.IMMUTABLE).record.level is not Protection.IMMUTABLE:
        pytest.skip("the immutable attribute can't be had here")
    new = herd / "bases" / "new"
    move(base, new, herd=[herd])
    try:
        with pytest.raises(PermissionError):
            new.unlink()
        assert statuses(herd) == {"ok"}
    finally:
        seal(new, level=Protection.RECORDED)


@pytest.fixture
def other_file_system(tmp_path):
    place = Path("/dev/shm")
    if not os.access(place, os.W_OK) or place.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other file system to move to")
    directory = place / f"cowherd-test-{os.getpid()}"
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)


def test_across_file_systems_it_is_refused_without_space_before_anything_is_written(herd, other_file_system, monkeypatch):
    monkeypatch.setattr("cowherd.storage.space.free_bytes", lambda path: 1000)
    with pytest.raises(NotEnoughSpace):
        move(herd / "bases" / "base", other_file_system, herd=[herd])
    assert list(other_file_system.iterdir()) == []
    assert (herd / "bases" / "base").exists()


def test_across_file_systems_the_image_is_copied_with_seal_and_mode(herd, other_file_system):
    before = contents(herd)
    done = move(herd / "bases" / "base", other_file_system, herd=[herd])
    there = other_file_system / "base"
    assert done.copied_bytes > 0
    assert not (herd / "bases" / "base").exists()
    assert backing(herd / "vms" / "b") == os.fspath(there)
    assert contents(herd) == before
    assert {row.status.value for row in verify(herd=[herd, other_file_system])} == {"ok"}
    assert there.stat().st_mode & 0o777 == 0o444


def test_across_file_systems_a_finished_copy_is_taken_for_the_result_of_an_earlier_try(herd, other_file_system):
    shutil.copyfile(herd / "bases" / "base", other_file_system / "base")
    move(herd / "bases" / "base", other_file_system, herd=[herd])
    assert not (herd / "bases" / "base").exists()


def test_across_file_systems_another_file_is_not_replaced(herd, other_file_system):
    (other_file_system / "base").write_bytes((herd / "bases" / "base").read_bytes()[:-1] + b"x")
    with pytest.raises(HostFileError):
        move(herd / "bases" / "base", other_file_system, herd=[herd])
    assert (herd / "bases" / "base").exists()


@pytest.mark.parametrize("moved", ["base", "mid"])
def test_killed_before_any_change_every_overlay_reads_the_same_and_the_move_goes_on(herd, moved):
    (herd / "elsewhere").mkdir()
    before, source, target = contents(herd), herd / "bases" / moved, herd / "elsewhere" / "new"
    number = 0
    while killed_before_change(number, lambda: move(source, target, herd=[herd])):
        assert contents(herd) == before, f"killed before change {number}"
        if source.exists():
            move(source, target, herd=[herd])
        assert not source.exists()
        assert contents(herd) == before
        lineage = survey([herd])
        assert [link for image in lineage.images.values() for link in lineage.links(image) if link.target is None] == []
        move(target, source, herd=[herd])
        number += 1
    assert number > 8
    assert contents(herd) == before


@pytest.mark.parametrize("taken", ["vms/b", "bases/base"])
def test_who_takes_an_image_at_the_last_moment_is_named(herd, other_file_system, monkeypatch, taken):
    monkeypatch.setattr(moving, "_require_free", lambda plan: None)  # nobody had it then
    unprotect(herd / "bases" / "base", 0o644)
    command = [sys.executable, "-c", HOLD, herd / taken]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(ImageInUse) as refused:
            move(herd / "bases" / "base", other_file_system / "new", herd=[herd])
        holder.communicate(b"")
    assert any(f"pid {holder.pid}," in line for line in refused.value.holders)
