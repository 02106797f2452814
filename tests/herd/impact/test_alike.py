"""Empty overlays of one image show the same: `impact --files` looks into one of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cowherd.herd.impact import files
from cowherd.herd.impact.files import impact_on_files
from cowherd.herd.impact.inside import Inside
from cowherd.herd.impact.verdict import hit_to_json
from cowherd.image.open import open_disk
from tests.herd.qemu_herd import make_base, make_overlay, noise

MIB = 1 << 20


@pytest.fixture
def base(tmp_path):
    """A base with its older copy, `old`, and overlays: some empty, some not, some as large as others."""
    herd = tmp_path / "herd"
    herd.mkdir()
    base = make_base(herd / "base.qcow2", noise(2 * MIB))
    for name in ("one", "two", "three"):
        make_overlay(herd / name, base.name)
    for name in ("large", "larger"):
        make_overlay(herd / name, base.name, size=4 * MIB)
    make_overlay(herd / "short", base.name, size=MIB)
    for name in ("on-short", "on-short-too"):
        make_overlay(herd / name, "short", size=2 * MIB)
    make_overlay(herd / "written", base.name)
    change(herd / "written", MIB)
    for name in ("on-written", "on-written-too"):
        make_overlay(herd / name, "written")
    shutil.copy(base, tmp_path / "old")
    change(base, 0)
    return base


def change(image: Path, offset: int) -> None:
    with open_disk(image, format="qcow2", writable=True) as disk:
        disk.write(offset, b"changed" * 1000)


@pytest.fixture
def looks(monkeypatch):
    """The names of the overlays that would be looked into."""
    names = []

    def counted(disk, *_):
        names.append(disk.path.name)
        return Inside()

    monkeypatch.setattr(files, "look_inside", counted)
    return names


def judged(base: Path) -> list[dict]:
    old = base.parent.parent / "old"
    return [hit_to_json(hit) for hit in impact_on_files(base, against=old).overlays]


def test_one_of_those_that_show_the_same_is_looked_into(base, looks):
    judged(base)
    assert sorted(looks) == ["large", "on-short", "on-written", "one", "short", "written"]


def test_each_is_said_to_be_what_a_look_into_it_alone_finds(base, monkeypatch):
    for name in ("three", "larger"):
        base.with_name(name).unlink()
    together = judged(base)
    monkeypatch.setattr(files, "_what_is_shown", lambda disk: object())
    assert together == judged(base)
    assert {hit["verdict"] for hit in together} == {"synchronised", "torn"}


def test_bytes_of_its_own_outside_of_the_change_keep_an_overlay_apart(base, looks):
    change(base.with_name("one"), 2 * MIB - 65536)
    judged(base)
    assert {"one", "three"} <= set(looks)
    assert "two" not in looks
