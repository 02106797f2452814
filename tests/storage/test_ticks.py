from __future__ import annotations

import os
import subprocess
import time

import pytest

from cowherd.storage import ticks
from cowherd.storage.identity import FileIdentity
from tests.storage.hosts import mounted, require_root


def coarse(tmp_path, kind, *options):
    """A mounted file system of its own in a file."""
    require_root()
    image, place = tmp_path / "fs", tmp_path / "mounted"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    made = subprocess.run([f"mkfs.{kind}", *options, image], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"mkfs.{kind} does not work here")
    return mounted(image, place)


@pytest.mark.parametrize(("kind", "options"), [("ext4", ("-q", "-I", "128")), ("ext2", ("-q", "-I", "128")), ("vfat", ())])
def test_a_write_after_settling_shows_however_coarse_the_times_are(tmp_path, kind, options):
    with coarse(tmp_path, kind, *options) as place:
        path = place / "image"
        path.write_bytes(b"0" * 4096)
        sealed, certain = ticks.wait_for_tick(path)
        assert certain
        with path.open("r+b") as file:
            file.write(b"1")
        assert FileIdentity.of(path) != sealed


def test_a_file_that_has_not_changed_lately_takes_no_time(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(b"0")
    ticks.wait_for_tick(path)
    started = time.monotonic()
    assert ticks.wait_for_tick(path) == (FileIdentity.of(path), True)
    assert time.monotonic() - started < 0.05


def test_where_times_are_fine_settling_takes_a_tick_of_the_clock(tmp_path):
    path, started = tmp_path / "image", time.monotonic()
    for _ in range(10):
        path.write_bytes(b"0")
        assert ticks.wait_for_tick(path)[1]
    assert time.monotonic() - started < 1


def test_over_a_network_a_neighbour_tells_that_the_clock_has_ticked(tmp_path, monkeypatch):
    monkeypatch.setattr(ticks, "_type_of", lambda device: "nfs4")
    path = tmp_path / "image"
    path.write_bytes(b"0")
    assert ticks.wait_for_tick(path) == (FileIdentity.of(path), True)
    assert [one.name for one in tmp_path.iterdir()] == ["image"]


def test_where_nobody_can_see_the_clock_tick_it_is_not_certain(tmp_path, monkeypatch):
    monkeypatch.setattr(ticks, "_type_of", lambda device: "nfs4")
    monkeypatch.setattr(ticks, "_stamp_beside", lambda path: None)
    path = tmp_path / "image"
    path.write_bytes(b"0")
    assert ticks.wait_for_tick(path) == (FileIdentity.of(path), False)


def test_a_time_that_lies_far_ahead_is_not_waited_for(tmp_path, monkeypatch):
    path = tmp_path / "image"
    path.write_bytes(b"0")
    monkeypatch.setattr(time, "clock_gettime_ns", lambda clock: 10**18)
    started = time.monotonic()
    assert ticks.wait_for_tick(path)[1]
    assert time.monotonic() - started < 0.02


def test_what_leaves_no_trace_is_known(tmp_path):
    assert ticks.leaves_no_trace(os.stat(tmp_path)) is None
    if os.path.ismount("/dev/shm"):
        assert "memory map" in (ticks.leaves_no_trace(os.stat("/dev/shm")) or "")
