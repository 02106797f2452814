from __future__ import annotations

import os
from pathlib import Path

import pytest

from cowherd.errors import BaseInUse, BaseSealed, HostFileError, ImageInUse, InvalidRequest
from cowherd.formats.qcow2 import create
from cowherd.herd.lineage.survey import survey, survey_around
from cowherd.herd.overlays.clone import clone
from cowherd.herd.records.faults import HerdNotReadable
from cowherd.herd.records.ownership import TRASH
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.verify import verify
from cowherd.herd.trash.trash import empty_trash, purge, restore, trash, trashed
from cowherd.storage import atomic, protection
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import READ
from cowherd.storage.protection import Protection
from tests.herd.killing import killed_before_change
from tests.herd.qemu_herd import content, make_base, make_overlay, noise, qemu_img, write
from tests.herd.refusing import refuse

pytestmark = pytest.mark.qemu("qemu-io")

CONTENT = noise(1 << 20)


@pytest.fixture
def herd(tmp_path):
    """A sealed readonly base with the bound overlay `o`, and `alone`."""
    make_base(tmp_path / "base", CONTENT)
    clone(tmp_path / "base", tmp_path / "o")
    seal(tmp_path / "base", level=Protection.READONLY)
    make_base(tmp_path / "alone", CONTENT)
    return tmp_path


def names(directory) -> set[str]:
    return {path.name for path in directory.iterdir() if path.name != TRASH}


def test_an_image_goes_to_the_trash_and_comes_back(herd):
    before = (herd / "alone").read_bytes()
    (entry,) = trash([herd / "alone"])
    assert names(herd) == {"base", "base.seal", "o"}
    assert [found.path for found in trashed([herd])] == [herd / "alone"]
    assert restore(herd / "alone").path == herd / "alone"
    assert (herd / "alone").read_bytes() == before
    assert not (herd / TRASH).exists()
    assert entry.disk_size == 0


def test_it_comes_back_by_its_id_too(herd):
    (entry,) = trash([herd / "alone"])
    restore(entry.id, herd=[herd])
    assert (herd / "alone").exists()


def test_of_one_path_the_newest_comes_back(herd):
    trash([herd / "alone"])
    make_base(herd / "alone", noise(65536, 3))
    trash([herd / "alone"])
    restore(herd / "alone")
    assert content(herd / "alone") == noise(65536, 3)
    assert len(trashed([herd])) == 1


def test_what_lies_in_the_trash_is_no_longer_shown_and_still_needs_its_base(herd):
    (entry,) = trash([herd / "o"])
    lineage = survey([herd])
    assert {image.path.name for _, image, _ in lineage.walk()} == {"base", "alone"}
    assert [image.path for image in lineage.dependents(lineage.find(herd / "base"))] == [entry.image]


def test_a_needed_base_is_refused_and_its_overlays_named(herd):
    with pytest.raises(BaseSealed) as caught:
        trash([herd / "base"])
    assert caught.value.dependents == (herd / "o",)
    make_overlay(herd / "p", "alone")
    with pytest.raises(BaseInUse):
        trash([herd / "o", herd / "alone"])
    assert names(herd) == {"base", "base.seal", "o", "p", "alone"}


def test_dependents_elsewhere_count_when_their_directory_is_named(herd, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    make_overlay(elsewhere / "p", herd / "alone")
    with pytest.raises(BaseInUse):
        trash([herd / "alone"], herd=[elsewhere])


def test_a_needed_base_goes_with_force_and_comes_back_with_its_seal(herd):
    before = content(herd / "o")
    (entry,) = trash([herd / "base"], force=True)
    assert entry.dependents == (herd / "o",)
    assert names(herd) == {"alone", "o"}
    assert restore(herd / "base").sealed
    assert content(herd / "o") == before
    assert {row.status.value for row in verify([herd / "o"])} == {"ok"}
    assert (herd / "base").stat().st_mode & 0o777 == 0o444


def test_a_base_and_its_overlays_go_together_and_come_back_in_any_order(herd):
    entries = trash([herd / "base", herd / "o"])
    assert [entry.path.name for entry in entries] == ["o", "base"]
    assert "base" in (restore(herd / "o").base_problem or "")
    assert restore(herd / "base").base_problem is None
    assert {row.status.value for row in verify([herd / "o"])} == {"ok"}


def test_an_immutable_base_goes_and_comes_back_immutable(herd):
    if seal(herd / "base", level=Protection.IMMUTABLE).record.level is not Protection.IMMUTABLE:
        pytest.skip("the immutable attribute can't be had here")
    try:
        trash([herd / "base", herd / "o"])
        restore(herd / "base")
        with pytest.raises(PermissionError):
            (herd / "base").unlink()
        assert {row.status.value for row in verify([herd / "base"])} == {"ok"}
    finally:
        if (herd / "base").exists():
            seal(herd / "base", level=Protection.RECORDED)


def test_a_base_touched_in_the_trash_comes_back_without_a_seal_that_holds(herd):
    (entry,) = trash([herd / "base"], force=True)
    entry.image.chmod(0o644)
    write(entry.image, "write -P 1 0 64k")
    assert not restore(herd / "base").sealed
    assert {row.status.value for row in verify([herd / "base"])} == {"touched"}


def test_what_took_its_place_is_not_replaced(herd):
    trash([herd / "alone"])
    (herd / "alone").write_bytes(b"precious")
    with pytest.raises(HostFileError):
        restore(herd / "alone")
    assert (herd / "alone").read_bytes() == b"precious"
    assert len(trashed([herd])) == 1


def test_an_image_in_use_is_refused(herd):
    with HostFile.open(herd / "alone", lock=READ), pytest.raises(ImageInUse):
        trash([herd / "alone"])
    assert (herd / "alone").exists()


@pytest.mark.parametrize("delete", [trash, purge])
@pytest.mark.parametrize("name", ["o", "inner"])
def test_nothing_goes_while_an_overlay_may_be_there_that_can_not_be_read(herd, monkeypatch, delete, name):
    (herd / "inner").mkdir()
    refuse(monkeypatch, herd / name)
    with pytest.raises(HerdNotReadable) as refused:
        delete([herd / "alone"], herd=[herd])
    assert (refused.value.unreadable, refused.value.exit_code) == ((herd / name,), 3)
    assert (herd / "alone").exists()
    delete([herd / "alone"], ignore_unreadable=True, herd=[herd])
    assert not (herd / "alone").exists()


@pytest.mark.parametrize("delete", [trash, purge])
def test_nobody_makes_an_overlay_of_an_image_while_it_goes(herd, monkeypatch, delete):
    refused = []

    def unprotecting(path, *copies, real=protection.renamed, **options):
        with pytest.raises(ImageInUse) as error:
            clone(herd / "alone", herd / "late", seal_base=False)
        refused.append(error.value.path)
        return real(path, *copies, **options)

    monkeypatch.setattr(protection, "renamed", unprotecting)
    delete([herd / "alone"])
    assert refused == [herd / "alone"]
    assert names(herd) == {"base", "base.seal", "o"}


def test_an_overlay_that_is_being_made_keeps_its_base(herd, monkeypatch):
    def deleting(*arguments, real=create.write_empty):
        with pytest.raises(ImageInUse):
            trash([herd / "alone"])
        return real(*arguments)

    monkeypatch.setattr(create, "write_empty", deleting)
    clone(herd / "alone", herd / "late", seal_base=False)
    assert content(herd / "late") == CONTENT


def test_an_overlay_made_just_before_the_image_is_looked_at_keeps_it(herd, monkeypatch):
    """QEMU makes overlays without a lock that lasts."""

    def late(*arguments, real=survey_around, **options):
        make_overlay(herd / "late", herd / "alone")
        return real(*arguments, **options)

    monkeypatch.setattr("cowherd.herd.trash.checks.survey_around", late)
    with pytest.raises(BaseInUse):
        trash([herd / "alone"])
    assert (herd / "alone").exists()


def test_an_image_that_is_named_twice_goes_once(herd):
    (herd / "link").symlink_to("alone")
    assert len(trash([herd / "alone", herd / "link"])) == 1


def test_what_is_not_in_the_trash_can_not_come_back(herd):
    with pytest.raises(InvalidRequest):
        restore(herd / "alone", herd=[herd])


def test_emptying_removes_for_good_and_tells_what_was_freed(herd):
    trash([herd / "alone"])
    size = trashed([herd])[0].disk_size
    assert [freed for _, freed in empty_trash([herd], dry_run=True)] == [size]
    assert len(trashed([herd])) == 1
    assert [freed for _, freed in empty_trash([herd])] == [size]
    assert not (herd / TRASH).exists()


def test_the_record_goes_when_all_else_is_durably_gone(herd, monkeypatch):
    seal(herd / "alone")
    (entry,) = trash([herd / "alone"])
    left = []

    def flushing(directory, *, real=atomic.sync_directory):
        place = Path(os.path.realpath(directory))
        left.append((place, entry.directory.exists() and names(entry.directory), entry.record.exists()))
        real(directory)

    monkeypatch.setattr(atomic, "sync_directory", flushing)
    empty_trash([herd])
    assert left[-4:] == [  # before that others are made durable
        (entry.directory, {"alone"}, True),
        (entry.directory, set(), True),
        (entry.trash, False, True),
        (entry.trash, False, False),
    ]


def test_emptying_spares_what_is_younger(herd):
    trash([herd / "alone"])
    assert empty_trash([herd], older_than_days=1) == []
    assert len(trashed([herd])) == 1


@pytest.mark.parametrize("days", [-1, float("nan"), float("inf"), 1e300])
def test_a_number_of_days_that_is_none_empties_nothing(herd, days):
    trash([herd / "alone"])
    with pytest.raises(InvalidRequest):
        empty_trash([herd], older_than_days=days)
    assert len(trashed([herd])) == 1


def test_emptying_is_refused_while_an_overlay_waits_for_its_base(herd):
    trash([herd / "base"], force=True)
    with pytest.raises(BaseInUse) as caught:
        empty_trash([herd])
    assert caught.value.dependents == (herd / "o",)
    assert len(empty_trash([herd], force=True)) == 1


def test_purging_needs_force_for_a_sealed_image(herd):
    (herd / "o").unlink()
    with pytest.raises(BaseSealed):
        purge([herd / "base"])
    purge([herd / "base"], force=True)
    purge([herd / "alone"])
    assert names(herd) == set()


def test_a_damaged_record_is_left_alone(herd):
    (entry,) = trash([herd / "alone"])
    entry.record.write_text('{"version": 1, "path": "relative"}')
    assert trashed([herd]) == []
    assert entry.image.exists()


def test_killed_before_any_change_an_image_is_there_or_in_the_trash(herd):
    number = 0
    while killed_before_change(number, lambda: trash([herd / "base"], force=True)):
        if not (herd / "base").exists():
            assert restore(herd / "base").base_problem is None
        assert content(herd / "o") == CONTENT
        assert (herd / "base.seal").exists()
        verify([herd / "base"], full=True, refresh_seals=True)
        number += 1
    assert number > 4


def test_killed_before_any_change_a_restore_goes_on(herd):
    number = 0
    while True:
        trash([herd / "base"], force=True)
        killed = killed_before_change(number, lambda: restore(herd / "base"))
        if not (herd / "base").exists():
            restore(herd / "base")
        assert content(herd / "o") == CONTENT
        assert os.path.lexists(herd / "base.seal")
        verify([herd / "base"], full=True, refresh_seals=True)
        if not killed:
            break
        number += 1
    assert number > 4


@pytest.mark.parametrize("waiting", [False, True], ids=["purge", "empty"])
def test_what_others_say_is_on_the_disk_before_anything_goes_for_good(tmp_path, monkeypatch, waiting):
    make_base(tmp_path / "old", noise(1 << 16))
    make_base(tmp_path / "new", noise(1 << 16))
    make_overlay(tmp_path / "top", "old")
    qemu_img("rebase", "-u", "-b", "new", "-F", "qcow2", tmp_path / "top")  # killed before it flushed, as far as anybody can tell
    if waiting:
        trash([tmp_path / "old"])
    done = []

    def flushing(descriptor, real=os.fsync):
        done.append(os.fstat(descriptor).st_ino)
        return real(descriptor)

    def removing(name, *words, real=os.unlink, **more):
        done.append(os.path.basename(name))
        return real(name, *words, **more)

    monkeypatch.setattr(os, "fsync", flushing)
    monkeypatch.setattr(os, "unlink", removing)
    if waiting:
        empty_trash([tmp_path])
    else:
        purge([tmp_path / "old"])
    top = (tmp_path / "top").stat().st_ino
    assert top in done[: done.index("old")]
