"""What daily work does while a merge is interrupted: nothing but saying so, until `recover` has ended it."""

from __future__ import annotations

import pytest

from cowherd.cli.guard.main import main
from cowherd.herd.doctor.doctor import doctor
from cowherd.herd.doctor.finding import Kind
from cowherd.herd.lineage.pending import MergePending, Pending
from cowherd.herd.lineage.survey import survey
from cowherd.herd.merge.merge import merge
from cowherd.herd.overlays.clone import clone
from cowherd.herd.overlays.flatten import flatten
from cowherd.herd.overlays.move import move
from cowherd.herd.overlays.promote import promote
from cowherd.herd.overlays.relink import relink
from cowherd.herd.overlays.retarget import retarget
from cowherd.herd.repair.repair import repair
from cowherd.herd.seals.adopt import adopt
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.unseal import unseal
from cowherd.herd.trash.trash import purge, trash
from tests.herd.merge.herds import killed_at
from tests.herd.qemu_herd import make_base, noise, write

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20


@pytest.fixture
def herd(tmp_path):
    """A sealed base with the overlays `overlay`, whose merge was interrupted, and `other`."""
    make_base(tmp_path / "base", noise(MIB))
    for name in ("overlay", "other"):
        clone(tmp_path / "base", tmp_path / name)
    write(tmp_path / "overlay", "write -P 1 0 300k")
    moment = 1
    while not any(seen.entry for seen in Pending(survey([tmp_path])).journals):
        assert killed_at(moment, lambda: merge(tmp_path / "overlay"))
        moment += 1
    return tmp_path


CHANGES = {
    "move": lambda herd: move(herd / "base", herd / "new"),
    "move an overlay": lambda herd: move(herd / "other", herd / "new"),
    "flatten": lambda herd: flatten(herd / "other"),
    "retarget": lambda herd: retarget([herd / "other"], herd / "base"),
    "promote": lambda herd: promote(herd / "other", herd / "new"),
    "delete": lambda herd: trash([herd / "other"]),
    "repair": lambda herd: repair(herd / "base"),
    "repair, keeping the change": lambda herd: repair(herd / "base", preserve=True),
    "seal": lambda herd: seal(herd / "base"),
    "unseal": lambda herd: unseal(herd / "base", force=True),
    "purge": lambda herd: purge([herd / "other"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_merge_concerns_is_left_alone(herd, change):
    before = {path.name: path.read_bytes() for path in herd.iterdir()}
    with pytest.raises(MergePending):
        CHANGES[change](herd)
    assert {path.name: path.read_bytes() for path in herd.iterdir()} == before


def test_a_link_is_not_repaired(herd):
    (done,) = relink([herd / "other"])
    assert isinstance(done.problem, MergePending)


def test_binding_is_refused_too(herd):
    (done,) = adopt([herd / "other"])
    assert isinstance(done.problem, MergePending)


def test_the_doctor_finds_the_merge_once_and_its_remedy_ends_it(herd):
    (finding,) = [finding for finding in doctor([herd]).findings if not finding.kind.is_note]
    assert finding.kind is Kind.MERGE_INTERRUPTED
    assert main(finding.remedy[1:]) == 0
    assert doctor([herd]).healthy
