"""`impact` and `merge` beside many overlays of which the same is to be said."""

from __future__ import annotations

import pytest

from tests.herd.qemu_herd import make_base, make_overlay, noise, write

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20


@pytest.fixture
def herd(tmp_path, monkeypatch, cowherd):
    """A sealed base with 29 empty overlays, and three with writes of their own; the current directory."""
    monkeypatch.chdir(tmp_path)
    make_base(tmp_path / "base.qcow2", noise(MIB))
    for number in range(1, 30):
        make_overlay(tmp_path / f"vm{number:02}.qcow2", "base.qcow2")
    for name in ("db", "mail", "web"):
        make_overlay(tmp_path / f"{name}.qcow2", "base.qcow2")
    write(tmp_path / "db.qcow2", "write -P 3 512k 64k")
    write(tmp_path / "web.qcow2", "write -P 4 512k 64k")
    write(tmp_path / "mail.qcow2", "write -P 5 0 128k")
    assert cowherd("seal", "base.qcow2", "--bind")[0] == 0
    return tmp_path


@pytest.fixture
def changed(herd):
    """The same herd, with a base that was written to."""
    write(herd / "base.qcow2", "write -P 2 0 128k")
    return herd


def test_impact_tells_the_number_of_each_verdict_and_the_worst_first(cowherd, changed):
    code, out, _ = cowherd("impact", "base.qcow2")
    assert code == 4
    assert out.splitlines() == [
        "base.qcow2: 128 KiB changed, in 1 range",
        "  0x0 to 0x20000 (128 KiB)",
        "32 overlays: 2 torn, 29 synchronised, 1 intact",
        "torn          db.qcow2, web.qcow2  128 KiB exposed, 0 B shielded",
        "synchronised  vm{01..29}.qcow2     128 KiB exposed, 0 B shielded",
        "intact        mail.qcow2           0 B exposed, 128 KiB shielded",
        "no machine is seen on the 31 overlays that are not intact",
    ]


def test_impact_names_each_overlay_where_that_is_asked_for(cowherd, as_json, changed):
    lines = cowherd("impact", "base.qcow2", "--all")[1].splitlines()
    assert sum(line.startswith("synchronised  vm") for line in lines) == 29
    assert len(as_json("impact", "base.qcow2")[1]["overlays"]) == 32


def test_what_is_inside_of_equal_overlays_is_told_once(cowherd, changed):
    lines = cowherd("impact", "base.qcow2", "--files")[1].splitlines()
    assert sum("vm{01..29}.qcow2: synchronised" in line for line in lines) == 1
    assert len(lines) < 20


def test_impact_tells_of_the_worst_where_many_differ(cowherd, changed, monkeypatch):
    monkeypatch.setattr("cowherd.cli.guard.look.verdicts._LISTED_GROUPS", 1)
    assert cowherd("impact", "base.qcow2")[1].splitlines()[2:5] == [
        "32 overlays: 2 torn, 29 synchronised, 1 intact",
        "torn  db.qcow2, web.qcow2  128 KiB exposed, 0 B shielded",
        "and 30 more overlays, none of them worse; --all names them",
    ]
    assert "intact        mail.qcow2" in cowherd("impact", "base.qcow2", "--all")[1]


@pytest.mark.parametrize("words", [["--dry-run"], []])
def test_a_merge_tells_equal_amounts_once(cowherd, herd, words):
    write(herd / "web.qcow2", "write -P 6 0 128k")
    code, out, _ = cowherd("merge", "web.qcow2", "--strategy", "preserve", *words)
    assert code == 0
    would, written = ("would show", "to be written") if words else ("would have shown", "written")
    assert f"  a plain commit {would} 192 KiB of it to vm{{01..29}}.qcow2\n" in out
    assert f"  192 KiB of old content {written} to vm{{01..29}}.qcow2\n" in out
    assert len(out.splitlines()) < 12


def test_a_merge_names_each_overlay_where_that_is_asked_for(cowherd, as_json, herd):
    lines = cowherd("merge", "web.qcow2", "--dry-run", "--strategy", "preserve", "--all")[1].splitlines()
    assert len(lines) > 60
    _, document = as_json("merge", "web.qcow2", "--dry-run", "--strategy", "preserve")
    assert {f"{herd}/vm{number:02}.qcow2" for number in range(1, 30)} <= {one["path"] for one in document["dependents"]}
