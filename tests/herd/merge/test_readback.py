"""A merge believes nothing that it did not read again, holds what it works on, and leaves nobody out."""

from __future__ import annotations

import errno
import os

import pytest

from cowherd.errors import FlushFailed, HostFileError, ImageInUse
from cowherd.herd.merge import merge as merging
from cowherd.herd.merge import phases
from cowherd.herd.merge import recover as recovering
from cowherd.herd.merge.faults import MergeFailed, MergeInterrupted
from cowherd.herd.merge.merge import merge
from cowherd.herd.merge.offline import Offline
from cowherd.herd.merge.phases import Merge
from cowherd.herd.merge.recover import FINISHED, TAKEN_BACK, recover
from cowherd.herd.overlays.clone import clone
from cowherd.herd.records.journal import Phase, journal_path, look_at
from cowherd.herd.seals.seal import seal
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import READ, WRITE
from tests.herd.qemu_herd import content, make_base, make_overlay, noise, write

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20
NAMES = ("overlay", "other", "top")


@pytest.fixture
def herd(tmp_path):
    """A base, two overlays of it, and an overlay on the first."""
    make_base(tmp_path / "base", noise(MIB))
    for name, base in (("overlay", "base"), ("other", "base"), ("top", "overlay")):
        make_overlay(tmp_path / name, base)
    write(tmp_path / "overlay", "write -P 1 0 128k")
    write(tmp_path / "other", "write -P 2 64k 64k")
    write(tmp_path / "top", "write -P 3 512k 64k")
    return tmp_path


def shown(herd) -> dict[str, bytes]:
    return {name: content(herd / name) for name in NAMES if (herd / name).exists()}


def spoil_what_was_applied(monkeypatch) -> None:
    """Has the image that a merge wrote to hold something else afterwards."""
    apply_down = Offline.apply_down

    def work(self, plan, below, progress):
        apply_down(self, plan, below, progress)
        with HostFile.open(below[0].path, writable=True, lock=None) as file:
            data = file.pread(0, file.size())
            at = data.index(b"\1" * 512)
            file.pwrite(at, b"\7")

    monkeypatch.setattr(Offline, "apply_down", work)


def test_a_base_that_does_not_read_back_as_merged_keeps_the_overlay_and_the_journal(herd, monkeypatch):
    before = shown(herd)
    with monkeypatch.context() as broken:
        spoil_what_was_applied(broken)
        with pytest.raises(MergeInterrupted, match="does not hold what was merged into it") as raised:
            merge(herd / "overlay", strategy="preserve")
    assert isinstance(raised.value.__cause__, MergeFailed)
    assert raised.value.exit_code == 4
    assert shown(herd) == before
    assert [one.outcome for one in recover([herd])] == [FINISHED]
    assert shown(herd) == {name: before[name] for name in ("other", "top")}


def test_a_sibling_that_does_not_show_what_it_did_keeps_the_overlay_and_the_journal(herd, monkeypatch):
    monkeypatch.setattr(Merge, "serve_siblings", lambda self: None)
    with pytest.raises(MergeInterrupted, match="other: it does not show what it did before the merge"):
        merge(herd / "overlay", strategy="preserve")
    assert (herd / "overlay").exists()
    assert journal_path(herd / "base").exists()


def test_a_new_base_that_does_not_read_back_as_merged_never_gets_its_name(herd, monkeypatch):
    before = shown(herd)
    spoil_what_was_applied(monkeypatch)
    with pytest.raises(MergeFailed):
        merge(herd / "overlay", strategy="fork")
    assert shown(herd) == before
    assert sorted(os.listdir(herd)) == ["base", "other", "overlay", "top"]


def locked(herd, mode) -> set[str]:
    """The images that another process could not open like this."""
    found = set()
    for name in ("base", *NAMES):
        try:
            HostFile.open(herd / name, writable=mode is WRITE, lock=mode).close()
        except ImageInUse:
            found.add(name)
    return found


def test_a_merge_is_alone_with_all_that_it_changes_while_it_changes_it(herd, monkeypatch):
    found = []
    original = Merge.apply
    monkeypatch.setattr(Merge, "apply", lambda self: (found.append(locked(herd, READ)), original(self))[1])
    merge(herd / "overlay", strategy="preserve")
    assert found == [{"base", *NAMES}]


def test_nobody_writes_to_what_a_merge_looks_at_while_it_plans(herd, monkeypatch):
    found = []
    original = merging.plan_merge
    monkeypatch.setattr(
        merging, "plan_merge", lambda *args, **options: (found.append(locked(herd, WRITE)), original(*args, **options))[1]
    )
    merge(herd / "overlay", strategy="preserve", dry_run=True)
    assert found == [{"base", *NAMES}]


def interrupted(herd, monkeypatch) -> None:
    with monkeypatch.context() as broken:
        spoil_what_was_applied(broken)
        with pytest.raises(MergeInterrupted):
            merge(herd / "overlay", strategy="preserve")


def test_who_recovers_is_alone_with_all_that_it_changes(herd, monkeypatch):
    interrupted(herd, monkeypatch)
    found = []
    original = Merge.apply
    monkeypatch.setattr(Merge, "apply", lambda self: (found.append(locked(herd, READ)), original(self))[1])
    assert [one.outcome for one in recover([herd])] == [FINISHED]
    assert found == [{"base", *NAMES}]


@pytest.mark.parametrize("name", ["base", *NAMES])
def test_a_merge_does_not_begin_while_somebody_writes_to_what_it_concerns(herd, name):
    with HostFile.open(herd / name, writable=True, lock=WRITE), pytest.raises(ImageInUse):
        merge(herd / "overlay", strategy="preserve")
    assert not journal_path(herd / "base").exists()


@pytest.mark.parametrize("name", ["base", *NAMES])
def test_recovering_waits_for_who_reads_what_it_would_change(herd, name, monkeypatch):
    interrupted(herd, monkeypatch)
    with HostFile.open(herd / name, lock=READ):
        (one,) = recover([herd])
    assert isinstance(one.error, ImageInUse)
    assert journal_path(herd / "base").exists()


def test_a_merge_keeps_its_journal_while_an_image_that_it_concerns_can_not_be_looked_at(herd, monkeypatch):
    def unseen(lineage, entry):
        raise HostFileError(herd / "other", "read", OSError(errno.EIO, "Input/output error"))

    with monkeypatch.context() as failing:
        failing.setattr(phases, "require_concerned", unseen)
        with pytest.raises(MergeInterrupted):
            merge(herd / "overlay", strategy="preserve")
    assert journal_path(herd / "base").exists()
    with monkeypatch.context() as failing:
        failing.setattr(recovering, "require_concerned", unseen)
        (one,) = recover([herd])
        assert isinstance(one.error, HostFileError)
    assert [one.outcome for one in recover([herd])] == [FINISHED]


def test_a_sibling_that_needs_nothing_is_made_durable_before_the_base_changes(herd, monkeypatch):
    """That it has its own copy may be in memory only: its machine was killed."""
    write(herd / "other", "write -P 5 0 128k")
    order = []
    fsync, apply_down = os.fsync, Offline.apply_down
    monkeypatch.setattr(
        os, "fsync", lambda fd: (order.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))), fsync(fd))[1]
    )
    monkeypatch.setattr(Offline, "apply_down", lambda *arguments: (order.append("base changes"), apply_down(*arguments))[1])
    merge(herd / "overlay", strategy="preserve")
    assert "other" in order[: order.index("base changes")]


def test_a_flush_that_failed_leaves_the_journal_to_recover_which_reads_from_the_disk(herd, monkeypatch):
    before = shown(herd)
    real = os.fdatasync

    def fdatasync(fd):
        if os.readlink(f"/proc/self/fd/{fd}").endswith("/other"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(fd)

    with monkeypatch.context() as failing:
        failing.setattr(os, "fdatasync", fdatasync)
        with pytest.raises(MergeInterrupted, match=r"Could not flush '.*/other'") as raised:
            merge(herd / "overlay", strategy="preserve")
    assert isinstance(raised.value.__cause__, FlushFailed)
    seen = look_at(journal_path(herd / "base"))
    assert seen is not None
    assert seen.phase is Phase.PREPARING
    asked = []
    advise = os.posix_fadvise
    monkeypatch.setattr(
        os,
        "posix_fadvise",
        lambda fd, *rest: (asked.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))), advise(fd, *rest)),
    )
    assert [one.outcome for one in recover([herd])] == [TAKEN_BACK]
    assert {"base", "base.merge", *NAMES} <= set(asked)
    assert shown(herd) == before


def test_what_a_killed_merge_left_is_durable_before_recover_reads_it(herd, monkeypatch):
    seal(herd / "base")
    clone(herd / "base", herd / "third")
    interrupted(herd, monkeypatch)
    order = []
    fsync, end = os.fsync, recovering._end
    monkeypatch.setattr(
        os, "fsync", lambda fd: (order.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))), fsync(fd))[1]
    )
    monkeypatch.setattr(recovering, "_end", lambda *arguments: (order.append("reads"), end(*arguments))[1])
    assert [one.outcome for one in recover([herd])] == [FINISHED]
    assert {"base", "base.seal", "base.merge", "third", herd.name, *NAMES} <= set(order[: order.index("reads")])
