"""Flushes that no other flush makes up for, each where it has to be among the changes that build on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cowherd.errors import NotEnoughSpace
from cowherd.formats.reference import BackingReference
from cowherd.herd.lineage.survey import survey
from cowherd.herd.overlays.clone import clone
from cowherd.herd.overlays.promote import promote
from cowherd.herd.overlays.relink import relink
from cowherd.herd.records.faults import FormatDisputed
from cowherd.herd.seals.adopt import adopt
from cowherd.herd.seals.held import held_content
from cowherd.herd.seals.naming import write_reference
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.unseal import unseal
from cowherd.herd.trash.trash import restore, trash
from cowherd.storage.protection import Protection
from tests.herd.qemu_herd import make_base, make_overlay, noise

pytestmark = pytest.mark.qemu

Event = tuple[str, int | str]


@pytest.fixture
def events(monkeypatch) -> Iterator[list[Event]]:
    """What is flushed and whose mode is changed, by inode number, and what names are made, changed and removed."""
    happened: list[Event] = []

    def noting(name, what):
        real = getattr(os, name)

        def call(first, *words, **more):
            done = real(first, *words, **more)
            happened.append((what, os.stat(first).st_ino if what in ("flush", "chmod") else os.path.basename(first)))
            return done

        monkeypatch.setattr(os, name, call)

    for name, what in (
        ("fsync", "flush"),
        ("fdatasync", "flush"),
        ("mkdir", "mkdir"),
        ("rename", "rename"),
        ("chmod", "chmod"),
        ("fchmod", "chmod"),
        ("unlink", "unlink"),
    ):
        noting(name, what)
    return happened


def inode(path: Path) -> int:
    return path.stat().st_ino


def test_a_name_that_is_there_already_is_flushed(tmp_path, events):
    make_base(tmp_path / "base", noise(1 << 16))
    make_overlay(tmp_path / "top", tmp_path / "base")
    top = survey([tmp_path]).find(tmp_path / "top")
    write_reference(top, BackingReference(str(tmp_path / "base"), "qcow2"))
    assert ("flush", inode(tmp_path / "top")) in events


def test_a_link_that_needs_no_repair_is_flushed_if_it_is_young(tmp_path, events):
    make_base(tmp_path / "base", noise(1 << 16))
    make_overlay(tmp_path / "top", "base")
    assert relink([tmp_path / "top"]) == []
    assert ("flush", inode(tmp_path / "top")) in events


def test_a_seal_that_was_brought_is_flushed_before_the_one_that_was_left_goes(tmp_path, events):
    make_base(tmp_path / "base", noise(1 << 16))
    clone(tmp_path / "base", tmp_path / "top")
    shutil.copy2(tmp_path / "base.seal", tmp_path / "gone.seal")  # as if the base had been moved from there, and the run killed
    brought = inode(tmp_path / "base.seal")
    events.clear()
    assert relink([tmp_path / "top"]) == []
    assert not (tmp_path / "gone.seal").exists()
    assert ("flush", brought) in events[: events.index(("unlink", "gone.seal"))]


def test_each_step_into_the_trash_is_flushed_before_the_next(tmp_path, events):
    make_base(tmp_path / "alone", noise(1 << 16))
    (entry,) = trash([tmp_path / "alone"])
    box, home, place = inode(entry.trash), inode(tmp_path), inode(entry.directory)
    made, moved = events.index(("mkdir", entry.id)), events.index(("rename", "alone"))
    assert ("flush", box) in events[made:moved]
    assert events[moved + 1 : moved + 3] == [("flush", place), ("flush", home)]


def test_what_a_killed_restore_gave_back_is_flushed_before_it_leaves_the_trash(tmp_path, events):
    make_base(tmp_path / "alone", noise(1 << 16))
    (entry,) = trash([tmp_path / "alone"])
    os.link(entry.image, tmp_path / "alone")
    events.clear()
    restore(tmp_path / "alone")
    gone = events.index(("unlink", "alone"))
    assert ("flush", inode(tmp_path / "alone")) in events[:gone]
    assert ("flush", inode(tmp_path)) in events[:gone]


def test_a_copy_is_refused_without_space_before_anything_is_written(tmp_path, monkeypatch):
    make_base(tmp_path / "disk", noise(1 << 16))
    monkeypatch.setattr("cowherd.storage.space.free_bytes", lambda path: 1000)
    with pytest.raises(NotEnoughSpace):
        promote(tmp_path / "disk", tmp_path / "golden")
    assert [path.name for path in tmp_path.iterdir()] == ["disk"]


def test_a_base_that_is_recorded_in_two_formats_is_not_promoted(tmp_path):
    make_base(tmp_path / "disk", noise(1 << 16))
    make_overlay(tmp_path / "one", "disk")
    make_overlay(tmp_path / "two", "disk", base_format="raw")
    with pytest.raises(FormatDisputed):
        promote(tmp_path / "disk", tmp_path / "golden")


def test_the_mode_of_the_overlay_that_takes_a_disks_place_is_flushed_before_it_has_the_name(tmp_path, monkeypatch):
    make_base(tmp_path / "disk", noise(1 << 16))
    flushed, too_late, flush, rename = set(), [], os.fsync, os.rename

    def noting(file):
        flush(file)
        flushed.add(os.fstat(file).st_ino)

    def checking(name, new, **more):
        if os.path.basename(new) == "disk" and os.lstat(name).st_ino not in flushed:
            too_late.append(name)
        rename(name, new, **more)

    monkeypatch.setattr(os, "fsync", noting)
    monkeypatch.setattr(os, "rename", checking)
    promote(tmp_path / "disk", tmp_path / "golden", chained=True)
    assert (tmp_path / "disk").stat().st_ino in flushed
    assert too_late == []


def test_the_mode_of_a_sealed_base_is_flushed_before_its_seal_tells_of_it(tmp_path, events):
    base = make_base(tmp_path / "base", noise(1 << 16))
    seal(base, level=Protection.READONLY)
    protected = max(at for at, event in enumerate(events) if event == ("chmod", inode(base)))
    named = max(at for at, (what, _) in enumerate(events) if what == "rename")
    assert ("flush", inode(base)) in events[protected:named]


def test_what_is_read_for_a_record_is_flushed_first_with_all_that_it_stands_on(tmp_path, events):
    make_base(tmp_path / "base", noise(1 << 16))
    make_overlay(tmp_path / "top", "base")
    lineage = survey([tmp_path])
    with held_content(lineage, lineage.find(tmp_path / "top")):
        assert {("flush", inode(tmp_path / "base")), ("flush", inode(tmp_path / "top"))} <= set(events)


def test_files_that_a_seal_records_anew_are_flushed_first(tmp_path, events):
    make_base(tmp_path / "base", noise(1 << 16))
    make_overlay(tmp_path / "top", "base")
    seal(tmp_path / "top")
    seal(tmp_path / "base")
    events.clear()
    assert adopt([tmp_path / "top"])[0].problem is None
    assert {("flush", inode(tmp_path / "base")), ("flush", inode(tmp_path / "top"))} <= set(events)


def test_a_binding_that_is_there_already_is_flushed(tmp_path, events):
    make_base(tmp_path / "base", noise(1 << 16))
    clone(tmp_path / "base", tmp_path / "top")
    events.clear()
    seal(tmp_path / "base", bind=True)
    assert ("flush", inode(tmp_path / "top")) in events


def test_the_mode_that_an_unsealed_base_has_back_is_flushed_before_its_seal_goes(tmp_path, events):
    base = make_base(tmp_path / "base", noise(1 << 16))
    seal(base, level=Protection.READONLY)
    events.clear()
    unseal(base)
    gone = events.index(("unlink", "base.seal"))
    assert ("flush", inode(base)) in events[events.index(("chmod", inode(base))) : gone]
