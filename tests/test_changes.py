"""What every change that goes past the gate does first, and what becomes of an overlay's binding when its base changes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from cowherd import api
from cowherd.errors import ImageInUse
from cowherd.herd.gate import gate
from cowherd.herd.records.binding import Binding, read_binding
from cowherd.herd.records.sealfile import read_record
from cowherd.herd.records.sealplace import seal_path
from cowherd.ops.rebase.rebased import NewBackingFileError
from tests.herd.qemu_herd import make_base, make_overlay, noise, write

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20


@pytest.fixture
def herd(tmp_path: Path) -> Path:
    """A base that is sealed, two overlays that are bound to it, one of them sealed, and another sealed base of the same size."""
    make_base(tmp_path / "base", noise(MIB))
    make_base(tmp_path / "newer", noise(MIB, 1))
    for name in ("overlay", "other"):
        make_overlay(tmp_path / name, "base")
        write(tmp_path / name, "write -P 1 0 64k")
    api.seal(tmp_path / "base", bind=True)
    api.seal(tmp_path / "newer")
    return tmp_path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def written_to(herd: Path) -> None:
    with api.open(herd / "base", writable=True, break_dependents=True) as disk:
        disk.write(0, b"x")


CHANGES = {
    "open": (("base",), written_to),
    "create": (("base",), lambda herd: api.create(herd / "base", MIB, break_dependents=True)),
    "convert": (("base",), lambda herd: api.convert(herd / "newer", herd / "base", break_dependents=True)),
    "commit": (("base", "overlay"), lambda herd: api.commit(herd / "overlay", break_dependents=True)),
    "rebase": (("overlay",), lambda herd: api.rebase(herd / "overlay", "newer", backing_format="qcow2", break_dependents=True)),
    "resize": (("base",), lambda herd: api.resize(herd / "base", 2 * MIB, break_dependents=True)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_past_the_gate_is_announced_before_the_first_byte_changes(herd: Path, name: str, monkeypatch):
    changed, work = CHANGES[name]
    before = {path: digest(herd / path) for path in changed}
    announced = {}
    original = gate.announce_override

    def announce(path):
        announced[Path(path).name] = digest(Path(path))
        original(path)

    monkeypatch.setattr(gate, "announce_override", announce)
    work(herd)
    assert announced == before
    assert {path: digest(herd / path) for path in changed} != before


def test_an_overlay_that_was_committed_is_no_longer_bound_to_what_its_base_held(herd: Path):
    assert read_binding(herd / "overlay") is not None
    api.commit(herd / "overlay", break_dependents=True)
    assert read_binding(herd / "overlay") is None
    assert read_binding(herd / "other") is not None


def test_an_overlay_that_was_rebased_is_bound_to_the_base_that_it_stands_on_now(herd: Path):
    newer = Binding.to(read_record(seal_path(herd / "newer")))
    assert read_binding(herd / "overlay") not in (newer, None)
    api.rebase(herd / "overlay", "newer", backing_format="qcow2")
    assert read_binding(herd / "overlay") == newer


@pytest.mark.parametrize("onto", ["overlay", "top"])
def test_an_overlay_can_not_be_rebased_onto_what_stands_on_it(herd: Path, onto: str):
    make_overlay(herd / "top", "overlay")
    before = digest(herd / "overlay")
    with pytest.raises(NewBackingFileError) as caught:
        api.rebase(herd / "overlay", onto, backing_format="qcow2")
    assert isinstance(caught.value.error, ImageInUse)
    assert caught.value.error.path == herd / "overlay"
    assert digest(herd / "overlay") == before


def test_an_overlay_that_was_rebased_without_looking_keeps_the_evidence_of_its_old_base(herd: Path):
    before = read_binding(herd / "overlay")
    api.rebase(herd / "overlay", "newer", backing_format="qcow2", unsafe=True, break_dependents=True)
    assert read_binding(herd / "overlay") == before
