from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from bench import mounts
from bench.mounts import PlaceMissing, Roots, fitting, mount_again, mounted
from bench.places import DISK, EXT4_COLD, EXT4_WARM, TMPFS, XFS
from bench.scale import FULL, GIB, MIB, QUICK, scale


@pytest.fixture
def roots(tmp_path, monkeypatch):
    monkeypatch.setattr(mounts, "_EXT4_LEAST", 64 * MIB)
    monkeypatch.setattr(mounts, "_EXT4_SIZE", 64 * MIB)
    monkeypatch.setattr(mounts, "_SPARE", 0)
    for name in ("memory", "disk"):
        (tmp_path / name).mkdir()
    return Roots(tmp_path / "memory", tmp_path / "disk")


def attached(folder):
    return str(folder) in subprocess.run(["losetup", "--list"], capture_output=True, text=True, check=True).stdout


def test_the_scale_is_that_which_was_asked_for_if_there_is_room():
    assert fitting(FULL, 15 * GIB) == FULL
    assert fitting(QUICK, 2 * GIB) == QUICK


def test_with_less_room_the_images_are_smaller_and_chains_stay_as_deep():
    assert fitting(FULL, 15 * GIB - 1) == scale(0.5)
    assert fitting(FULL, 5 * GIB) == scale(0.25)
    assert scale(0.25).depths == FULL.depths


def test_a_disk_without_room_for_a_quarter_is_told():
    with pytest.raises(PlaceMissing, match="3,072 MiB free of the 15,360 MiB"):
        fitting(FULL, 3 * GIB)


def test_the_place_in_memory_is_a_folder_there_that_is_removed(roots):
    with mounted(TMPFS, roots, QUICK) as (folder, size):
        assert folder.parent == roots.memory
        assert size == QUICK
    assert list(roots.memory.iterdir()) == []


def interrupted(name, roots, look):
    """Looks at a place and is interrupted there."""
    with mounted(name, roots, QUICK) as (folder, _):
        look(folder)
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", DISK)
def test_the_place_on_a_disk_is_an_ext4_that_is_removed_also_after_an_interrupt(roots, name):
    found = []

    def look(folder):
        taken = (folder.parent / "ext4.img").stat().st_blocks * 512
        found.extend([folder.is_mount(), roots.disk in folder.parents, attached(roots.disk), taken >= 64 * MIB])

    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted(name, roots, look)
    except PlaceMissing as missing:
        pytest.skip(str(missing))
    assert found == [True] * 4
    assert list(roots.disk.iterdir()) == []
    assert not attached(roots.disk)


def test_a_mount_that_is_in_use_is_given_back_when_its_user_has_ended(roots):
    try:
        with mounted(EXT4_WARM, roots, QUICK) as (folder, _):
            user = subprocess.Popen(["sleep", "0.5"], cwd=folder)
    except PlaceMissing as missing:
        pytest.skip(str(missing))
    assert user.wait() == 0
    assert list(roots.disk.iterdir()) == []


def test_a_mount_that_stays_in_use_is_told(monkeypatch):
    monkeypatch.setattr(mounts, "_RELEASE_SECONDS", 0)
    with pytest.raises(mounts.BenchmarkFailed, match="false failed"):
        mounts._release("false")


@pytest.mark.parametrize("name", [XFS, *DISK])
def test_who_is_not_root_gets_no_place_that_is_mounted(roots, name, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name, path: f"/sbin/{name}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PlaceMissing, match="only root"), mounted(name, roots, QUICK):
        pytest.fail("mounted")
    assert list(roots.disk.iterdir()) == list(roots.memory.iterdir()) == []


@pytest.mark.parametrize(("name", "package"), [(XFS, "xfsprogs"), (EXT4_COLD, "e2fsprogs")])
def test_a_file_system_that_cant_be_made_is_told(roots, name, package, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    with pytest.raises(PlaceMissing, match=package), mounted(name, roots, QUICK):
        pytest.fail("mounted")
    assert list(roots.disk.iterdir()) == list(roots.memory.iterdir()) == []


def test_a_place_that_is_mounted_again_has_its_files_but_no_byte_of_them_in_memory(roots):
    try:
        with mounted(EXT4_COLD, roots, QUICK) as (folder, _):
            path = folder / "inside" / "file"
            path.parent.mkdir()
            path.write_bytes(b"x" * MIB)
            mount_again(path.parent)
            with path.open("rb") as file, pytest.raises(BlockingIOError):
                os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
            assert path.read_bytes() == b"x" * MIB
    except PlaceMissing as missing:
        pytest.skip(str(missing))
