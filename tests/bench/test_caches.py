from __future__ import annotations

import pytest

from bench import caches
from bench.inputs import Workspace
from bench.places import EXT4_COLD, EXT4_WARM, PLACES
from bench.scale import QUICK


@pytest.fixture
def switch(tmp_path, monkeypatch):
    """A file in the place of the kernel's: a test drops no caches of the machine that it runs on."""
    path = tmp_path / "drop_caches"
    path.touch()
    monkeypatch.setattr(caches, "DROP_CACHES", path)
    return path


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
def test_the_caches_are_dropped_only_where_the_place_is_cold(place, tmp_path, switch, read):
    caches.settle(workspace(tmp_path, place))
    assert switch.read_text() == ("3\n" if place == EXT4_COLD else "")


@pytest.mark.parametrize("place", PLACES)
def test_inputs_are_read_before_each_run_only_where_the_place_is_warm(place, tmp_path, switch, read):
    space = workspace(tmp_path, place)
    space.once("used", lambda path: path.write_bytes(b"x"))
    (space.shared / "not-used").write_bytes(b"x")
    caches.settle(space)
    assert read == ([space.own, space.shared / "used"] if place == EXT4_WARM else [])
