from __future__ import annotations

import errno
import os
import shutil

import pytest

from cowherd.errors import HostFileError
from cowherd.herd.overlays.clone import clone
from cowherd.herd.overlays.relink import BaseNotFound, relink
from cowherd.herd.records.faults import UnsealRefused
from cowherd.herd.seals.naming import write_reference
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.unseal import unseal
from cowherd.herd.seals.verify import verify
from tests.herd.killing import killed_before_change
from tests.herd.qemu_herd import content, make_base, make_overlay, noise, qemu_img, write
from tests.herd.refusing import refuse

pytestmark = pytest.mark.qemu("qemu-io")

CONTENT = noise(1 << 20)


@pytest.fixture
def herd(tmp_path):
    """A sealed base with bound overlays `a` and `b`, and a decoy of the same size."""
    make_base(tmp_path / "base", CONTENT)
    make_base(tmp_path / "decoy", noise(1 << 20, 1))
    for name in ("a", "b"):
        clone(tmp_path / "base", tmp_path / name)
        write(tmp_path / name, "write -P 1 0 64k")
    (tmp_path / "elsewhere").mkdir()
    return tmp_path


def test_a_base_moved_with_its_seal_is_found_for_every_overlay(herd):
    before = content(herd / "a")
    for name in ("base", "base.seal"):
        os.rename(herd / name, herd / "elsewhere" / name.replace("base", "renamed"))
    done = relink([herd])
    assert [(one.overlay.name, one.base, one.by_content) for one in done] == [
        ("a", herd / "elsewhere" / "renamed", True),
        ("b", herd / "elsewhere" / "renamed", True),
    ]
    assert content(herd / "a") == content(herd / "b") == before
    assert {row.status.value for row in verify([herd / "a", herd / "b"])} == {"ok"}


def test_a_base_moved_without_its_seal_gets_it_again(herd):
    before = content(herd / "a")
    os.rename(herd / "base", herd / "elsewhere" / "renamed")
    relink([herd / "a", herd / "b"])
    assert content(herd / "a") == content(herd / "b") == before
    assert (herd / "elsewhere" / "renamed.seal").exists()
    assert not (herd / "base.seal").exists()
    assert {row.status.value for row in verify([herd / "a", herd / "b"])} == {"ok"}


@pytest.mark.parametrize("bound", [True, False], ids=["bound", "unbound"])
def test_killed_before_any_change_it_can_be_given_again_and_the_seal_comes(herd, bound):
    if not bound:
        for name in ("a", "b"):
            make_overlay(herd / name, "base")
    before, number = content(herd / "a"), 0
    spread(herd, number)
    while killed_before_change(number, lambda n=number: relink([herd / str(n)])):
        here = herd / str(number)
        assert all(one.problem is None for one in relink([here])), f"killed before change {number}"
        assert content(here / "a") == content(here / "b") == before
        assert (here / "elsewhere" / "renamed.seal").exists(), f"killed before change {number}"
        assert not (here / "base.seal").exists(), f"killed before change {number}"
        assert {row.status.value for row in verify([here / "a", here / "b"])} <= {"ok", "unbound"}
        number += 1
        spread(herd, number)
    assert number > 4


def spread(herd, number):
    """A herd of its own, in which the base was moved by hand and its seal forgotten."""
    here = herd / str(number)
    (here / "elsewhere").mkdir(parents=True)
    for name in ("a", "b", "base.seal"):
        shutil.copy2(herd / name, here / name)
    shutil.copy2(herd / "base", here / "elsewhere" / "renamed")
    for name in ("a", "b"):
        qemu_img("rebase", "-u", "-b", here / "base", "-F", "qcow2", here / name)


def test_a_copy_in_another_format_is_the_base_too(herd):
    before = content(herd / "a")
    qemu_img("convert", "-O", "raw", herd / "base", herd / "elsewhere" / "copy.raw")
    seal(herd / "elsewhere" / "copy.raw")
    (herd / "base").unlink()
    with pytest.raises(UnsealRefused):  # it says what the overlays wait for
        unseal(herd / "base")
    unseal(herd / "base", force=True)
    qemu_img("rebase", "-u", "-b", "gone", "-F", "raw", herd / "a")
    (done,) = relink([herd / "a"])
    assert (done.base, content(herd / "a")) == (herd / "elsewhere" / "copy.raw", before)


def test_a_raw_base_without_any_seal_is_found_by_its_name_and_content(herd):
    make_base(herd / "disk.raw", noise(1 << 20, 2), format="raw")
    clone(herd / "disk.raw", herd / "r", base_format="raw")
    unseal(herd / "disk.raw", force=True)
    os.rename(herd / "disk.raw", herd / "elsewhere" / "disk.raw")
    (done,) = relink([herd / "r"])
    assert (done.base, content(herd / "r")) == (herd / "elsewhere" / "disk.raw", noise(1 << 20, 2))


def test_the_format_in_which_the_base_was_found_is_recorded(herd):
    make_base(herd / "disk.raw", CONTENT, format="raw")
    clone(herd / "disk.raw", herd / "r", base_format="raw")
    (herd / "disk.raw").unlink()
    (done,) = relink([herd / "r"])
    assert (done.base, content(herd / "r")) == (herd / "base", CONTENT)


def test_an_unbound_overlay_is_helped_by_the_seal_that_was_left(herd):
    make_overlay(herd / "u", "base")
    os.rename(herd / "base", herd / "elsewhere" / "renamed")
    (done,) = relink([herd / "u"])
    assert (done.base, content(herd / "u")) == (herd / "elsewhere" / "renamed", CONTENT)


def test_where_nothing_says_what_the_base_held_nothing_is_guessed(herd):
    make_overlay(herd / "u", "decoy")
    os.rename(herd / "decoy", herd / "elsewhere" / "decoy")
    before = (herd / "u").read_bytes()
    (done,) = relink([herd / "u"])
    assert isinstance(done.problem, BaseNotFound)
    assert (herd / "u").read_bytes() == before


def test_a_base_that_changed_on_its_way_is_not_the_base(herd):
    os.rename(herd / "base", herd / "elsewhere" / "base")
    write(herd / "elsewhere" / "base", "write -P 7 0 64k")
    (done,) = relink([herd / "a"])
    assert isinstance(done.problem, BaseNotFound)
    assert herd / "elsewhere" / "base" in done.problem.tried


def test_the_base_of_a_moved_overlay_is_found_in_the_herd_named(herd, tmp_path_factory):
    away = tmp_path_factory.mktemp("away")
    before = content(herd / "a")
    shutil.move(herd / "a", away / "a")
    (done,) = relink([away / "a"], herd=[herd])
    assert (done.base, content(away / "a")) == (herd / "base", before)


def test_a_loop_is_broken_where_the_base_is_known(herd):
    before = content(herd / "b")
    clone(herd / "a", herd / "top")
    qemu_img("rebase", "-u", "-b", "top", "-F", "qcow2", herd / "a")
    relink([herd / "a"])
    assert content(herd / "a") == before


def test_a_deep_chain_is_repaired_from_its_root(herd):
    clone(herd / "a", herd / "top")
    before = content(herd / "top")
    for name in ("base", "base.seal"):
        os.rename(herd / name, herd / "elsewhere" / name)
    (herd / "further").mkdir()
    for name in ("a", "a.seal"):
        os.rename(herd / name, herd / "further" / name)
    done = relink([herd])
    assert [one.problem for one in done] == [None, None, None]
    assert content(herd / "top") == before


def test_a_sealed_overlay_keeps_its_seal(herd):
    seal(herd / "a")
    os.rename(herd / "base", herd / "elsewhere" / "base")
    relink([herd / "a", herd / "b"])
    assert {row.status.value for row in verify([herd / "a"])} == {"ok"}


@pytest.mark.parametrize("name", ["a", "inner", "."])
def test_what_can_not_be_read_may_need_repair_and_is_named(herd, monkeypatch, name):
    (herd / "inner").mkdir()
    (herd / "base").rename(herd / "renamed")
    refuse(monkeypatch, herd / name)
    done = {one.overlay: one for one in relink([herd])}
    assert "can't be read" in str(done[herd / name].problem)
    assert done[herd / name].problem.exit_code == 1
    assert (herd / "b" in done) == (name != ".")
    assert all(one.problem is None for path, one in done.items() if path != herd / name)


def test_an_overlay_that_is_gone_when_its_seal_is_to_be_renewed_is_told(herd, monkeypatch):
    seal(herd / "a")
    (herd / "base").rename(herd / "renamed")

    def gone(*arguments, real=write_reference):
        real(*arguments)
        (herd / "a").rename(herd.parent / "gone")

    monkeypatch.setattr("cowherd.herd.overlays.relink.write_reference", gone)
    (one,) = relink([herd / "a"], herd=[herd])
    assert "it was there a moment ago" in str(one.problem)


def test_sound_links_are_left_alone(herd):
    before = (herd / "a").read_bytes()
    assert relink([herd]) == []
    assert (herd / "a").read_bytes() == before


def test_a_dry_run_changes_nothing(herd):
    os.rename(herd / "base", herd / "elsewhere" / "base")
    before = (herd / "a").read_bytes()
    (done,) = relink([herd / "a"], dry_run=True)
    assert done.base == herd / "elsewhere" / "base"
    assert (herd / "a").read_bytes() == before
    assert (herd / "base.seal").exists()


def test_a_directory_of_which_the_host_can_not_tell_is_not_passed_over(tmp_path, monkeypatch):
    stat = os.stat

    def failing(path, *arguments, **options):
        if path == os.fspath(tmp_path):
            monkeypatch.undo()  # it fails once
            raise OSError(errno.EIO, "Input/output error")
        return stat(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", failing)
    with pytest.raises(HostFileError, match="Input/output error"):
        relink([tmp_path])


def test_an_image_whose_seal_is_damaged_is_looked_at_all_the_same(herd):
    before = content(herd / "a")
    seal(herd / "decoy")
    (herd / "decoy.seal").chmod(0o600)
    (herd / "decoy.seal").write_bytes((herd / "decoy.seal").read_bytes()[:100])
    os.rename(herd / "base", herd / "elsewhere" / "renamed")
    (done,) = relink([herd / "a"])
    assert (done.base, done.problem) == (herd / "elsewhere" / "renamed", None)
    assert content(herd / "a") == before
