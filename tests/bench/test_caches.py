from __future__ import annotations

import pytest

from bench import caches
from bench.inputs import Workspace
from bench.places import EXT4_COLD, EXT4_WARM, PLACES
from bench.scale import QUICK


@pytest.fixture
def mounted_again(monkeypatch):
    """The folders whose places were mounted again."""
    folders = []
    monkeypatch.setattr(caches, "mount_again", folders.append)
    return folders


@pytest.fixture
def read(monkeypatch):
    """What was read into the page cache."""
    paths = []
    monkeypatch.setattr(caches, "warm", paths.append)
    return paths


def workspace(tmp_path, place):
    for name in ("shared", "own"):
        (tmp_path / name).mkdir()
    return Workspace(tmp_path / "shared", tmp_path / "own", QUICK, place)


@pytest.mark.parametrize("place", PLACES)
def test_only_a_cold_place_is_mounted_again(place, tmp_path, mounted_again, read):
    space = workspace(tmp_path, place)
    caches.settle(space)
    assert mounted_again == ([space.own] if place == EXT4_COLD else [])


@pytest.mark.parametrize("place", PLACES)
def test_inputs_are_read_before_each_run_only_where_the_place_is_warm(place, tmp_path, mounted_again, read):
    space = workspace(tmp_path, place)
    space.once("used", lambda path: path.write_bytes(b"x"))
    (space.shared / "not-used").write_bytes(b"x")
    caches.settle(space)
    assert read == ([space.own, space.shared / "used"] if place == EXT4_WARM else [])
