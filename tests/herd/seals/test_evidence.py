from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

import cowherd
from cowherd.errors import ImageInUse
from cowherd.herd.doctor.doctor import doctor
from cowherd.herd.merge.merge import merge
from cowherd.herd.overlays.clone import clone
from cowherd.herd.overlays.flatten import flatten
from cowherd.herd.overlays.promote import promote
from cowherd.herd.overlays.relink import relink
from cowherd.herd.overlays.retarget import retarget
from cowherd.herd.records.binding import read_binding
from cowherd.herd.records.faults import BindingContradicted
from cowherd.herd.records.sealfile import read_record
from cowherd.herd.records.sealplace import seal_path
from cowherd.herd.repair.repair import repair
from cowherd.herd.seals.adopt import adopt
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.unseal import unseal
from cowherd.herd.seals.verify import verify
from cowherd.herd.trash.gc import gc
from cowherd.herd.watch.once import check_once
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import READ
from cowherd.storage.protection import Protection
from tests.herd.killing import killed_before_change
from tests.herd.qemu_herd import content, make_base, make_overlay, noise, write
from tests.storage.hosts import as_nobody, loop_device

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20


@pytest.fixture
def torn(tmp_path):
    """`vm`, made on another `base` than the one that is there now, without a seal; `top` stands on it; `other` is sound."""
    make_base(tmp_path / "base", noise(MIB))
    clone(tmp_path / "base", tmp_path / "vm")
    unseal(tmp_path / "base", force=True)
    write(tmp_path / "base", "write -P 7 0 256k")
    write(tmp_path / "vm", "write -P 5 512k 64k")
    make_overlay(tmp_path / "top", tmp_path / "vm")
    make_base(tmp_path / "other", noise(MIB, 3))
    return tmp_path


CHANGES = {
    "flatten": lambda herd: flatten(herd / "vm"),
    "flatten of what stands on it": lambda herd: flatten(herd / "top"),
    "flatten, planned": lambda herd: flatten(herd / "vm", dry_run=True),
    "retarget": lambda herd: retarget([herd / "vm"], herd / "other"),
    "retarget onto it": lambda herd: retarget([make_overlay(herd / "more", herd / "other")], herd / "vm"),
    "promote": lambda herd: promote(herd / "vm", herd / "golden"),
    "promote in place": lambda herd: promote(herd / "top", herd / "golden", chained=True),
    "merge": lambda herd: merge(herd / "vm"),
    "merge of what stands on it": lambda herd: merge(herd / "top"),
    "merge beside it": lambda herd: merge(make_overlay(herd / "more", herd / "base"), strategy="preserve"),
    "clone": lambda herd: clone(herd / "vm", herd / "more"),
    "clone of its base": lambda herd: clone(herd / "base", herd / "more"),
    "seal of its base": lambda herd: seal(herd / "base"),
    "seal with overlays": lambda herd: seal(herd / "base", bind=True),
    "commit": lambda herd: cowherd.commit(herd / "top"),
    "rebase": lambda herd: cowherd.rebase(herd / "vm", str(herd / "other"), backing_format="qcow2"),
    "rebase of what stands on it": lambda herd: cowherd.rebase(herd / "top", None),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_would_make_a_torn_overlay_count_as_right_is_refused(torn, change):
    before = {name: content(torn / name) for name in ("vm", "top", "base")}
    binding = read_binding(torn / "vm")
    with pytest.raises(BindingContradicted) as caught:
        change(torn)
    assert caught.value.exit_code == 4
    assert (caught.value.overlay.name, caught.value.base.name) == ("vm", "base")
    assert {name: content(torn / name) for name in before} == before
    assert read_binding(torn / "vm") == binding
    assert not seal_path(torn / "base").exists()


SEALED = {
    name: change for name, change in CHANGES.items() if name.split()[0] in ("flatten", "promote", "clone", "rebase", "merge")
}
del SEALED["clone of its base"]  # a base that is sealed as it is may get new overlays


@pytest.mark.parametrize("change", SEALED.values(), ids=SEALED)
def test_so_it_is_with_a_base_that_was_sealed_all_the_same(torn, change):
    seal(torn / "base", force=True)
    binding = read_binding(torn / "vm")
    with pytest.raises(BindingContradicted):
        change(torn)
    assert read_binding(torn / "vm") == binding


def test_a_repair_for_the_overlays_leaves_one_that_was_made_on_neither_content(torn):
    seal(torn / "base", force=True)
    write(torn / "base", "write -P 9 0 64k")
    with pytest.raises(BindingContradicted):
        repair(torn / "base", preserve=True)


def test_sealing_with_overlays_reports_the_contradicted_ones_and_leaves_them(torn):
    binding = read_binding(torn / "vm")
    done = seal(torn / "base", bind=True, force=True)
    assert [path.name for path in done.contradicted] == ["vm"]
    assert read_binding(torn / "vm") == binding
    assert seal(torn / "base", bind=True).contradicted == done.contradicted


def test_only_rebind_binds_it_anew(torn):
    (done,) = adopt([torn / "vm"])
    assert isinstance(done.problem, BindingContradicted)
    (done,) = adopt([torn / "vm"], rebind=True)
    assert done.problem is None
    assert {row.status.value for row in verify([torn / "vm"], full=True)} == {"ok"}


def test_sealing_with_rebind_binds_it_anew(torn):
    done = seal(torn / "base", rebind=True)
    assert [path.name for path in done.bound] == ["vm"]
    assert read_binding(torn / "vm").content_digest == done.record.content_digest


def test_breaking_dependents_overrides_it(torn):
    cowherd.rebase(torn / "vm", str(torn / "other"), backing_format="qcow2", break_dependents=True)
    assert read_binding(torn / "vm") is None


def test_an_unsafe_rebase_brings_it_back_to_the_base_that_it_was_made_on(torn):
    make_base(torn / "found", noise(MIB))
    cowherd.rebase(torn / "vm", str(torn / "found"), backing_format="qcow2", unsafe=True, break_dependents=True)
    assert {row.path.name: row.status.value for row in verify([torn / "vm"], full=True)}["vm"] == "ok"


def test_no_remedy_of_the_doctors_makes_it_right(torn):
    binding = read_binding(torn / "vm")
    for full in (False, True):
        assert "vm" in {finding.path.name for finding in doctor([torn], full=full).findings if not finding.kind.is_note}
    relink([torn])
    assert read_binding(torn / "vm") == binding


@pytest.fixture
def lost(tmp_path):
    """A bound overlay whose base has lost its seal, and nothing else."""
    make_base(tmp_path / "base", noise(MIB))
    clone(tmp_path / "base", tmp_path / "vm")
    write(tmp_path / "vm", "write -P 5 512k 64k")
    record = read_record(seal_path(tmp_path / "base"))
    os.unlink(seal_path(tmp_path / "base"))
    return tmp_path, record


def test_a_lost_seal_is_said_and_sealing_restores_it(lost):
    herd, record = lost
    assert {row.path.name: row.status.value for row in verify(herd=[herd])} == {"base": "unsealed", "vm": "unvouched"}
    rows = {row.path.name: row for row in verify(herd=[herd], full=True)}
    assert rows["vm"].status == "ok"
    assert "no seal" in rows["vm"].detail
    (finding,) = [finding for finding in doctor([herd]).findings if finding.kind == "unvouched"]
    assert finding.remedy[:3] == ("cowherd", "seal", str(herd / "base"))
    again = seal(herd / "base").record
    assert (again.seal_id, again.generation, again.content_digest) == (record.seal_id, record.generation, record.content_digest)
    assert {row.status.value for row in verify(herd=[herd])} == {"ok"}


@pytest.mark.parametrize(
    "change", [lambda herd: flatten(herd / "vm"), lambda herd: merge(herd / "vm"), lambda herd: cowherd.commit(herd / "vm")]
)
def test_a_lost_seal_is_in_nobodys_way_while_the_content_is_right(lost, change):
    change(lost[0])


def test_a_damaged_seal_vouches_for_nothing(lost):
    herd, _ = lost
    seal_path(herd / "base").write_bytes(b"cowseal\nnot at all")
    assert {row.path.name: row.status.value for row in verify(herd=[herd])} == {"base": "touched", "vm": "unvouched"}
    write(herd / "base", "write -P 7 0 256k")
    assert {row.path.name: row.status.value for row in verify(herd=[herd], full=True)}["vm"] == "binding-mismatch"


def test_the_base_that_a_torn_overlay_was_made_on_is_found_again(torn):
    make_base(torn / "kept", noise(MIB))
    (done,) = [one for one in relink([torn]) if one.overlay.name == "vm"]
    assert (done.base.name, done.by_content) == ("kept", True)
    assert {row.path.name: row.status.value for row in verify([torn / "vm"], full=True)}["vm"] == "ok"


def test_a_base_that_can_not_be_seen_from_here_is_not_replaced_by_another(tmp_path):
    make_base(tmp_path / "base", noise(MIB))
    clone(tmp_path / "base", tmp_path / "vm")
    cowherd.rebase(tmp_path / "vm", "nbd://host/base", backing_format="raw", unsafe=True)
    assert {row.path.name: row.status.value for row in verify(herd=[tmp_path])}["vm"] == "unknown"
    (done,) = relink([tmp_path / "vm"])
    assert done.base is None
    assert "nbd" in str(done.problem)
    assert not [one for one in gc([tmp_path]) if one.path.name == "vm"]
    (finding,) = [one for one in doctor([tmp_path]).findings if one.path.name == "vm"]
    assert (finding.kind, finding.remedy) == ("unknown-base", ())


@pytest.fixture
def labelled(tmp_path):
    """A sealed base with two overlays, and another sealed base, all given to another user and back: nobody wrote to anything."""
    for name, seed in (("base", 0), ("other", 3)):
        make_base(tmp_path / name, noise(MIB, seed))
        seal(tmp_path / name)
    for name in ("vm", "sibling"):
        clone(tmp_path / "base", tmp_path / name)
        write(tmp_path / name, "write -P 5 512k 64k")
    for name in ("base", "other"):
        mode = (tmp_path / name).stat().st_mode
        (tmp_path / name).chmod(0o600)
        (tmp_path / name).chmod(mode)
    return tmp_path


GOING_ON = {
    "flatten": lambda herd: flatten(herd / "vm"),
    "retarget": lambda herd: retarget([herd / "vm"], herd / "other"),
    "promote": lambda herd: promote(herd / "vm", herd / "golden"),
    "promote in place": lambda herd: promote(herd / "vm", herd / "golden", chained=True),
    "merge": lambda herd: merge(herd / "vm", strategy="preserve"),
    "fork": lambda herd: merge(herd / "vm", strategy="fork"),
    "clone": lambda herd: clone(herd / "base", herd / "more"),
    "seal": lambda herd: seal(herd / "base", bind=True),
    "bind": lambda herd: adopt([make_overlay(herd / "more", herd / "base")]),
    "rebase": lambda herd: cowherd.rebase(herd / "vm", str(herd / "other"), backing_format="qcow2"),
    "repair": lambda herd: repair(herd / "base"),
}


@pytest.mark.parametrize("change", GOING_ON.values(), ids=GOING_ON)
def test_where_only_attributes_changed_every_command_goes_on(labelled, change):
    assert {row.status.value for row in verify(herd=[labelled])} == {"attributes"}
    before = content(labelled / "sibling")
    change(labelled)
    assert content(labelled / "sibling") == before
    assert all(row.status.is_fine for row in verify(herd=[labelled]))
    assert {row.status.value for row in verify(herd=[labelled], full=True)} <= {"ok", "unsealed"}


def test_binding_to_a_base_of_which_only_attributes_changed_keeps_it_bound(labelled):
    retarget([labelled / "vm"], labelled / "other")
    assert read_binding(labelled / "vm").content_digest == read_record(seal_path(labelled / "other")).content_digest


def test_a_block_device_is_ok_and_not_certain(tmp_path):
    (tmp_path / "file").write_bytes(noise(MIB))
    with loop_device(tmp_path / "file") as device:
        seal(device, image_format="raw")
        try:
            (row,) = verify([device])
            assert (row.status, row.certain) == ("ok", False)
            assert "--full" in row.detail
            (row,) = verify([device], full=True)
            assert (row.status, row.certain, row.detail) == ("ok", True, "")
        finally:
            seal_path(device).unlink()


def test_watching_once_says_that_a_seal_was_lost(lost):
    herd, _ = lost
    (checked,) = check_once([herd], None, [])
    assert (checked.path.name, checked.outcome, checked.fine) == ("base", "unsealed", False)


@pytest.fixture
def stack(tmp_path):
    """A sealed `top` on `middle`, which is bound to nothing, on `base`; neither of these is sealed."""
    make_base(tmp_path / "base", noise(MIB))
    make_overlay(tmp_path / "middle", tmp_path / "base")
    write(tmp_path / "middle", "write -P 5 512k 64k")
    make_overlay(tmp_path / "top", tmp_path / "middle")
    seal(tmp_path / "top")
    return tmp_path


BELOW = {
    "seal": lambda herd: seal(herd / "base", level=Protection.READONLY),
    "seal and bind": lambda herd: seal(herd / "base", level=Protection.READONLY, bind=True),
    "seal of what is between": lambda herd: seal(herd / "middle", level=Protection.READONLY, bind=True),
    "both": lambda herd: (seal(herd / "base", bind=True), seal(herd / "middle", bind=True)),
    "both, from above": lambda herd: (seal(herd / "middle", bind=True), seal(herd / "base", bind=True)),
    "bind": lambda herd: adopt([herd / "middle", herd / "top"]),
    "rebase": lambda herd: cowherd.rebase(herd / "middle", str(twin_of(herd)), backing_format="qcow2"),
    "commit": lambda herd: cowherd.commit(herd / "middle"),
    "flatten": lambda herd: flatten(herd / "middle"),
    "retarget": lambda herd: retarget([herd / "middle"], twin_of(herd)),
}


def twin_of(herd):
    return make_base(herd / "twin", noise(MIB))


@pytest.mark.parametrize("change", BELOW.values(), ids=BELOW)
def test_a_seal_goes_on_to_hold_while_what_lies_below_it_is_sealed_bound_or_given_another_base(stack, change):
    change(stack)
    assert {row.path.name: row.status.value for row in verify([stack / "top"])}["top"] == "ok"
    assert {row.path.name: row.status.value for row in verify([stack / "top"], full=True)}["top"] == "ok"


RESUMED = {
    "flatten": lambda herd: flatten(herd / "vm"),
    "retarget": lambda herd: retarget([herd / "vm"], herd / "other"),
    "rebase": lambda herd: cowherd.rebase(herd / "vm", str(herd / "other"), backing_format="qcow2"),
    "commit": lambda herd: cowherd.commit(herd / "vm"),
}


@pytest.mark.parametrize("change", RESUMED.values(), ids=RESUMED)
def test_killed_before_any_change_a_bound_overlay_is_in_nobodys_way_afterwards(tmp_path, change):
    number, killed = 0, True
    while killed:
        herd = tmp_path / f"herd{number}"
        herd.mkdir()
        make_base(herd / "base", noise(MIB))
        make_base(herd / "other", noise(MIB, 3))
        seal(herd / "other")
        clone(herd / "base", herd / "vm")
        os.unlink(seal_path(herd / "base"))
        write(herd / "vm", "write -P 5 512k 64k")
        before = content(herd / "vm")
        killed = killed_before_change(number, lambda herd=herd: change(herd))
        if killed:
            change(herd)
        assert content(herd / "vm") == before, f"killed before change {number}"
        assert {row.path.name: row.status for row in verify([herd / "vm"], full=True)}["vm"].is_fine
        number += 1
    assert number > 2


def test_a_commit_that_fails_before_it_changes_anything_leaves_the_binding(lost):
    herd, _ = lost
    binding = read_binding(herd / "vm")
    with HostFile.open(herd / "base", lock=READ), pytest.raises(ImageInUse):
        cowherd.commit(herd / "vm")
    assert read_binding(herd / "vm") == binding


def test_a_seal_that_may_not_be_read_is_unknown_and_neither_lost_nor_damaged():
    with tempfile.TemporaryDirectory() as name:  # where others may look, too
        herd = Path(name)
        make_base(herd / "base", noise(MIB))
        clone(herd / "base", herd / "vm")
        seal_path(herd / "base").chmod(0o400)
        with as_nobody(herd):
            rows = {row.path.name: row.status.value for row in verify(herd=["."])}
    assert rows == {"base": "unknown", "vm": "unknown"}
