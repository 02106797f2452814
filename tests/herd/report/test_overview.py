from __future__ import annotations

import os

import pytest

from cowherd.herd.overlays.clone import clone
from cowherd.herd.report.overview import Look, look_over, overview
from cowherd.herd.report.readings import Readings
from cowherd.herd.seals import held
from cowherd.image.open import open_disk
from tests.herd.qemu_herd import make_base, noise, write

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20


@pytest.fixture
def herd(tmp_path):
    """A sealed base, and a bound overlay of it."""
    make_base(tmp_path / "base.qcow2", noise(MIB))
    clone(tmp_path / "base.qcow2", tmp_path / "o.qcow2")
    return tmp_path


def wrong(seen) -> list[tuple[str, str]]:
    return [(one.kind.value, one.path.name) for one in seen.diagnosis.findings if not one.kind.is_note]


def statuses(seen) -> dict[str, str]:
    return {node.path.name: node.status.value for node in seen.tree.nodes}


def test_a_base_that_was_written_to_has_drifted_everywhere_in_it(herd):
    write(herd / "base.qcow2", "write -P 1 512k 64k")
    seen = overview([herd])
    assert statuses(seen) == {"base.qcow2": "drifted", "o.qcow2": "drifted"}
    assert wrong(seen) == [("drifted", "base.qcow2")]
    assert seen.diagnosis.findings[0].remedy[:2] == ("cowherd", "repair")
    assert [(one.path.name, one.changed) for one in seen.drifts] == [("base.qcow2", ((512 << 10, 576 << 10),))]


def test_a_base_of_which_only_the_file_was_touched_is_fine_everywhere_in_it(herd):
    os.utime(herd / "base.qcow2")
    seen = overview([herd])
    assert statuses(seen) == {"base.qcow2": "ok", "o.qcow2": "ok"}
    assert wrong(seen) == []
    assert [(one.changed, one.problem) for one in seen.drifts] == [((), None)]


def test_a_changed_base_that_is_in_use_stays_touched_and_says_why_it_was_not_read(herd):
    write(herd / "base.qcow2", "write -P 1 512k 64k")
    with open_disk(herd / "base.qcow2", writable=True):
        for full in (False, True):
            seen = overview([herd], full=full)
            assert statuses(seen)["base.qcow2"] == "touched"
            assert ("touched", "base.qcow2") in wrong(seen)
            assert "lock" in str(seen.drifts[0].problem)


def test_with_full_a_fine_base_that_is_in_use_is_a_note(herd):
    with open_disk(herd / "base.qcow2", writable=True):
        seen = overview([herd], full=True)
    assert statuses(seen)["base.qcow2"] == "ok"
    assert ("not-read", "base.qcow2") in [(one.kind.value, one.path.name) for one in seen.diagnosis.findings]


def test_three_changed_bases_are_three_findings(tmp_path):
    for name in "abc":
        make_base(tmp_path / f"{name}.qcow2", noise(MIB))
        for number in range(5):
            clone(tmp_path / f"{name}.qcow2", tmp_path / f"{name}{number}.qcow2")
        write(tmp_path / f"{name}.qcow2", "write -P 1 0 64k")
    assert wrong(overview([tmp_path])) == [("drifted", f"{name}.qcow2") for name in "abc"]


@pytest.fixture
def read(monkeypatch):
    """The names of the images whose content was read."""
    names, before = [], held._unwritten
    monkeypatch.setattr(
        held, "_unwritten", lambda lineage, image, *a, **k: names.append(image.path.name) or before(lineage, image, *a, **k)
    )
    return names


def test_what_was_read_is_read_again_only_when_it_was_written_to(herd, read):
    write(herd / "base.qcow2", "write -P 1 512k 64k")
    readings = Readings()
    first, second = (look_over([herd], Look(), readings) for _ in range(2))
    assert read == ["base.qcow2"]
    assert first.drifts == second.drifts
    assert statuses(first) == statuses(second)
    write(herd / "base.qcow2", "write -P 1 0 64k")
    assert look_over([herd], Look(), readings).drifts[0].changed == ((0, 64 << 10), (512 << 10, 576 << 10))
    assert read == ["base.qcow2"] * 2


def test_a_look_at_files_says_what_is_inside(herd):
    write(herd / "base.qcow2", "write -P 1 512k 64k")
    hits = look_over([herd], Look(files=True), Readings()).drifts[0].hits
    assert [hit.inside is not None for hit in hits] == [True]
    assert overview([herd]).drifts[0].hits[0].inside is None
