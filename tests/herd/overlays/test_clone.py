from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path

import pytest

from cowherd.errors import CowherdError, HostFileError, ImageInUse, InvalidRequest, UnsupportedFeature
from cowherd.formats.qcow2 import create
from cowherd.formats.qcow2.create import write_empty
from cowherd.herd.lineage.backing_names import stored_name
from cowherd.herd.lineage.survey import survey_around
from cowherd.herd.overlays.clone import clone
from cowherd.herd.records.binding import Binding, read_binding
from cowherd.herd.records.faults import DriftFound
from cowherd.herd.records.sealplace import is_sealed
from cowherd.herd.seals.seal import seal
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import WRITE
from tests.herd.killing import killed_before_change
from tests.herd.qemu_herd import content, make_base, make_overlay, noise, qemu_img, write

pytestmark = pytest.mark.qemu("qemu-io")


@pytest.fixture
def base(tmp_path):
    return make_base(tmp_path / "base.qcow2", noise(1 << 20))


def info(path) -> dict:
    return json.loads(qemu_img("info", "--output=json", path))


def test_a_clone_shows_what_its_base_holds_and_qemu_finds_nothing_wrong(base):
    overlay = base.with_name("o.qcow2")
    clone(base, overlay)
    assert content(overlay) == content(base)
    qemu_img("check", "-q", overlay)
    facts = info(overlay)
    assert (facts["backing-filename"], facts["backing-filename-format"]) == ("base.qcow2", "qcow2")


def test_the_base_is_sealed_first_and_the_clone_bound_to_it(base):
    made = clone(base, base.with_name("o.qcow2"))
    assert made.sealed
    assert read_binding(made.overlay) == made.binding == Binding.to(made.sealed.record)


def test_a_base_that_is_sealed_is_not_sealed_again(base):
    record = seal(base).record
    made = clone(base, base.with_name("o.qcow2"))
    assert made.sealed is None
    assert made.binding == Binding.to(record)


def test_a_base_can_be_left_unsealed(base):
    made = clone(base, base.with_name("o.qcow2"), seal_base=False)
    assert made.binding is None
    assert not is_sealed(base)


def test_a_clone_of_an_overlay_is_bound_to_all_that_shows_through_it(base):
    middle = clone(base, base.with_name("middle.qcow2")).overlay
    write(middle, "write -P 1 0 64k")
    leaf = clone(middle, base.with_name("leaf.qcow2")).overlay
    assert is_sealed(middle)
    assert content(leaf) == content(middle)


def test_a_clone_can_be_larger_but_not_smaller(base):
    made = clone(base, base.with_name("large.qcow2"), size=5_000_000)
    assert made.size == info(made.overlay)["virtual-size"] == 5_000_192
    with pytest.raises(InvalidRequest, match="cut off"):
        clone(base, base.with_name("small.qcow2"), size=512)
    assert not base.with_name("small.qcow2").exists()


def test_a_raw_base_is_recorded_as_raw(tmp_path):
    base = make_base(tmp_path / "base.raw", noise(65536), format="raw")
    assert clone(base, tmp_path / "o.qcow2").backing.format == "raw"


def test_an_overlay_that_is_there_is_never_overwritten(base):
    overlay = make_overlay(base.with_name("o.qcow2"), base.name)
    before = overlay.read_bytes()
    with pytest.raises(HostFileError, match="File exists"):
        clone(base, overlay)
    assert overlay.read_bytes() == before


def test_a_name_that_an_old_seal_holds_is_refused(base):
    seal(base)
    base.with_name("o.qcow2.seal").hardlink_to(base.with_name("base.qcow2.seal"))
    with pytest.raises(InvalidRequest, match="unseal"):
        clone(base, base.with_name("o.qcow2"))


def test_a_base_that_may_have_drifted_is_not_cloned(base):
    seal(base)
    write(base, "write -P 1 0 64k")
    with pytest.raises(DriftFound, match="make an overlay"):
        clone(base, base.with_name("o.qcow2"))
    assert not base.with_name("o.qcow2").exists()


def test_a_base_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(HostFileError, match="No such file"):
        clone(tmp_path / "none", tmp_path / "o.qcow2")


def test_a_base_of_another_format_is_refused(tmp_path):
    qemu_img("create", "-q", "-f", "vmdk", tmp_path / "base.vmdk", "1M")
    with pytest.raises(UnsupportedFeature, match="vmdk"):
        clone(tmp_path / "base.vmdk", tmp_path / "o.qcow2")


def test_a_failure_leaves_no_half_made_overlay(base, monkeypatch):
    def fail(self):
        raise HostFileError(self.path, "flush", OSError(28, "No space left on device"))

    seal(base)
    monkeypatch.setattr("cowherd.storage.hostfile.HostFile.flush", fail)
    with pytest.raises(HostFileError, match="No space left"):
        clone(base, base.with_name("o.qcow2"))
    assert not base.with_name("o.qcow2").exists()


def test_names_that_qemu_would_take_for_a_protocol_work(tmp_path):
    base = make_base(tmp_path / "base", noise(65536)).rename(tmp_path / "nbd:base")
    made = clone(base, tmp_path / "o.qcow2")
    assert made.backing.name == "./nbd:base"
    assert content(made.overlay) == content(tmp_path / "nbd:base")


def test_clones_in_side_directories_move_with_their_base(tmp_path):
    (tmp_path / "pool" / "bases").mkdir(parents=True)
    (tmp_path / "pool" / "vms").mkdir()
    base = make_base(tmp_path / "pool" / "bases" / "b.qcow2", noise(65536))
    clone(base, tmp_path / "pool" / "vms" / "o.qcow2")
    wanted = content(base)
    (tmp_path / "pool").rename(tmp_path / "moved")
    assert content(tmp_path / "moved" / "vms" / "o.qcow2") == wanted


def test_a_clone_through_a_linked_directory_finds_its_base(tmp_path):
    (tmp_path / "real").mkdir()
    base = make_base(tmp_path / "real" / "b.qcow2", noise(65536))
    (tmp_path / "link").symlink_to("real")
    made = clone(tmp_path / "link" / "b.qcow2", tmp_path / "link" / "o.qcow2")
    assert made.backing.name == "b.qcow2"
    assert content(made.overlay) == content(base)


@pytest.mark.parametrize(
    ("base", "overlay", "name"),
    [
        ("/pool/b", "/pool/o", "b"),
        ("/pool/b", "/pool/vms/o", "../b"),
        ("/pool/bases/b", "/pool/o", "bases/b"),
        ("/pool/bases/b", "/pool/vms/o", "../bases/b"),
        ("/pool/bases/b", "/home/vms/o", "/pool/bases/b"),
        ("/pool/b", "/home/o", "/pool/b"),
        ("/b", "/vms/o", "/b"),
        ("/b", "/o", "b"),
    ],
)
def test_the_name_is_relative_where_both_lie_in_one_tree(base, overlay, name):
    assert stored_name(Path(base), Path(overlay)) == name


def test_a_clone_that_was_killed_at_any_point_can_be_made_again(base):
    overlay = base.with_name("o.qcow2")
    number = 0
    while killed_before_change(number, lambda: clone(base, overlay, seal_base=False)):
        if not overlay.exists():
            clone(base, overlay, seal_base=False)
        qemu_img("check", overlay)
        overlay.unlink()
        number += 1
    assert number > 2


def test_no_overlay_is_made_of_a_base_that_is_being_changed(base):
    seal(base)
    with HostFile.open(base, lock=WRITE), pytest.raises(ImageInUse):
        clone(base, base.with_name("o.qcow2"))
    assert not base.with_name("o.qcow2").exists()


def test_a_base_that_can_not_be_looked_at_for_a_moment_is_not_taken_for_raw(base, monkeypatch):
    seal(base)
    overlay, seen, number = base.with_name("o.qcow2"), [None], 0

    def failing(path, *arguments, real=os.stat, **options):
        if not isinstance(path, int) and os.fspath(path) == os.fspath(base):
            seen.append(path)
            if len(seen) == number:
                raise OSError(errno.EIO, os.strerror(errno.EIO), os.fspath(path))
        return real(path, *arguments, **options)

    while len(seen) >= number:
        seen.clear()
        number += 1
        with monkeypatch.context() as patched, contextlib.suppress(CowherdError, OSError):
            patched.setattr(os, "stat", failing)
            assert clone(base, overlay).backing.format == "qcow2"
        overlay.unlink(missing_ok=True)
    assert number > 3


def test_no_overlay_is_made_of_a_file_that_has_lost_its_name(base, monkeypatch):
    def replaced(*arguments, real=survey_around, **options):
        other = make_base(base.with_name("other.qcow2"), noise(65536, 2))
        other.rename(base)
        return real(*arguments, **options)

    monkeypatch.setattr("cowherd.herd.overlays.clone.survey_around", replaced)
    with pytest.raises(ImageInUse):
        clone(base, base.with_name("o.qcow2"), seal_base=False)
    assert not base.with_name("o.qcow2").exists()


def test_a_base_does_not_change_while_an_overlay_of_it_is_made(base, monkeypatch):
    seal(base)

    def merging(*arguments):
        with pytest.raises(ImageInUse):
            HostFile.open(base, lock=WRITE)
        return write_empty(*arguments)

    monkeypatch.setattr(create, "write_empty", merging)
    assert clone(base, base.with_name("o.qcow2")).binding
