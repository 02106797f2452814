from __future__ import annotations

import errno
import os

import pytest

from cowherd import changes
from cowherd.errors import BaseInUse, BaseSealed, HostFileError, InvalidRequest
from cowherd.herd.gate import gate
from cowherd.herd.records.status import Status
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.verify import verify
from cowherd.storage.identity import FileIdentity
from tests.herd.qemu_herd import make_base, make_overlay, noise, write

pytestmark = pytest.mark.qemu

GUARDS = [gate.guard_write, gate.guard_replace, gate.guard_resize, gate.guard_delete]


@pytest.fixture
def herd(tmp_path):
    """base <- (a <- a2, b)"""
    make_base(tmp_path / "base", noise(65536))
    make_overlay(tmp_path / "a", "base")
    make_overlay(tmp_path / "a2", "a")
    make_overlay(tmp_path / "b", "base")
    return tmp_path


@pytest.mark.parametrize("guard", GUARDS)
def test_a_base_with_overlays_is_refused_and_they_are_named(herd, guard):
    with pytest.raises(BaseInUse) as caught:
        guard(herd / "base")
    assert caught.value.dependents == (herd / "a", herd / "a2", herd / "b")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("guard", GUARDS)
def test_a_sealed_image_is_refused_even_with_nothing_on_it(herd, guard):
    seal(herd / "b")
    with pytest.raises(BaseSealed) as caught:
        guard(herd / "b")
    assert caught.value.dependents == ()


@pytest.mark.parametrize("guard", GUARDS)
def test_an_overlay_that_nothing_stands_on_passes(herd, guard):
    guard(herd / "b")


@pytest.mark.parametrize("guard", GUARDS)
def test_an_image_that_is_not_there_passes(herd, guard):
    guard(herd / "new")


@pytest.mark.parametrize("guard", GUARDS)
def test_what_is_no_image_is_left_to_the_operation(herd, guard):
    (herd / "directory").mkdir()
    for path in ("/dev/null", herd / "directory"):
        guard(path)


def test_the_action_is_named(herd):
    with pytest.raises(BaseInUse, match="refusing to resize"):
        gate.guard_resize(herd / "base")


def test_a_base_reached_by_another_name_is_refused_all_the_same(herd, tmp_path_factory):
    link = tmp_path_factory.mktemp("links") / "link"
    link.symlink_to(herd / "base")
    with pytest.raises(BaseInUse):
        gate.guard_write(link)


def test_a_seal_counts_for_every_name_of_the_file_in_the_herd(herd):
    seal(herd / "b")
    (herd / "hard").hardlink_to(herd / "b")
    with pytest.raises(BaseSealed):
        gate.guard_write(herd / "hard")


def test_a_damaged_seal_still_refuses(tmp_path):
    for name, format in (("base.raw", "raw"), ("base.qcow2", "qcow2")):
        base = make_base(tmp_path / name, noise(65536), format=format)
        path = seal(base).seal
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:50])
        with pytest.raises(BaseSealed):
            gate.guard_write(base)


def test_dependents_elsewhere_count_when_their_directory_is_named(herd, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    make_overlay(elsewhere / "o", herd / "b")
    write(elsewhere / "o", "write -P 1 0 64k")
    gate.guard_write(herd / "b")
    with pytest.raises(BaseInUse):
        gate.guard_write(herd / "b", herd=[elsewhere])
    assert gate.dependents_of(herd / "b", herd=[elsewhere]) == [elsewhere / "o"]


def test_committing_into_a_shared_base_is_refused_and_only_the_others_are_named(herd):
    with pytest.raises(BaseInUse, match="commit into") as caught:
        gate.guard_commit(herd / "b")
    assert caught.value.dependents == (herd / "a", herd / "a2")


def test_committing_spares_what_stands_on_the_overlay(herd):
    (herd / "b").unlink()
    gate.guard_commit(herd / "a")


def test_committing_the_only_overlay_passes(herd):
    gate.guard_commit(herd / "a2")


def test_committing_through_a_middle_image_uses_that_up(herd):
    (herd / "b").unlink()
    gate.guard_commit(herd / "a2", herd / "base")


def test_committing_through_a_middle_image_is_refused_if_something_else_stands_on_it(herd):
    (herd / "b").unlink()
    make_overlay(herd / "other", "a")
    with pytest.raises(BaseInUse) as caught:
        gate.guard_commit(herd / "a2", herd / "base")
    assert caught.value.dependents == (herd / "other",)


def test_committing_into_a_sealed_base_is_refused(herd):
    seal(herd / "a")
    with pytest.raises(BaseSealed, match="commit into"):
        gate.guard_commit(herd / "a2")


def test_committing_a_sealed_overlay_is_refused(herd):
    seal(herd / "a2")
    with pytest.raises(BaseSealed, match="refusing to commit "):
        gate.guard_commit(herd / "a2")


def test_committing_an_image_without_a_base_is_left_to_the_commit(herd):
    gate.guard_commit(herd / "base")


def test_a_rebase_that_keeps_the_content_passes_with_overlays_but_not_with_a_seal(herd):
    gate.guard_rebase(herd / "a", keeps_content=True)
    with pytest.raises(BaseInUse):
        gate.guard_rebase(herd / "a", keeps_content=False)
    seal(herd / "a")
    with pytest.raises(BaseSealed):
        gate.guard_rebase(herd / "a", keeps_content=True)


def test_a_sealed_image_that_is_changed_anyway_is_touched_before_the_first_write(herd):
    seal(herd / "base")
    gate.announce_override(herd / "base")
    assert {row.path.name: row.status for row in verify([herd / "base"])} == {"base": Status.TOUCHED}


def test_an_image_without_a_seal_that_is_changed_anyway_is_left_alone(herd):
    before = FileIdentity.of(herd / "base")
    gate.announce_override(herd / "base")
    assert FileIdentity.of(herd / "base") == before


@pytest.mark.parametrize("guard", GUARDS)
def test_a_host_that_can_not_tell_whether_there_is_a_base_does_not_open_the_gate(herd, monkeypatch, guard):
    lstat = os.lstat

    def failing(path, *arguments, **options):
        if os.fspath(path) == str(herd / "base"):
            raise OSError(errno.EIO, "Input/output error")
        return lstat(path, *arguments, **options)

    monkeypatch.setattr(os, "lstat", failing)
    with pytest.raises((HostFileError, BaseInUse)):
        guard(herd / "base")


CHANGES_BY_NAME = {
    "open": lambda name: changes.open(name, writable=True).close(),
    "resize": lambda name: changes.resize(name, 1 << 20),
    "rebase": lambda name: changes.rebase(name, None),
    "create": lambda name: changes.create(name, 1 << 20),
    "convert": lambda name: changes.convert(os.path.join(os.path.dirname(name[:-1]), "b"), name),
    "delete": changes.delete,
}


@pytest.mark.parametrize("change", CHANGES_BY_NAME.values(), ids=CHANGES_BY_NAME)
def test_a_slash_behind_a_name_leads_nobody_past_the_gate(herd, change):
    """The host finds no file under such a name: neither the gate nor who makes the change may find one."""
    seal(herd / "base")
    before = (herd / "base").read_bytes()
    with pytest.raises(HostFileError):
        change(f"{herd}/base/")
    assert (herd / "base").read_bytes() == before


def test_nothing_is_put_over_a_seal(herd):
    record = seal(herd / "b").seal
    before = record.read_bytes()
    for change in (lambda: changes.create(record, 1 << 20), lambda: changes.delete(record)):
        with pytest.raises(InvalidRequest, match="is a seal"):
            change()
    assert record.read_bytes() == before
