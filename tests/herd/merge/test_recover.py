from __future__ import annotations

import errno
import os

import pytest

from cowherd import commit, delete, rebase, resize
from cowherd import open as open_image
from cowherd.errors import HostFileError, ImageFormatError, ImageInUse, NotEnoughSpace
from cowherd.herd.impact.impact import impact
from cowherd.herd.lineage import reading
from cowherd.herd.lineage.pending import MergePending
from cowherd.herd.merge import concerned, phases
from cowherd.herd.merge.faults import MergeInterrupted
from cowherd.herd.merge.merge import merge
from cowherd.herd.merge.recover import FAILED, FINISHED, TAKEN_BACK, recover
from cowherd.herd.overlays.clone import clone
from cowherd.herd.records.header import read_image
from cowherd.herd.records.journal import Journal, Phase, journal_path, look_at
from cowherd.herd.records.status import Status
from cowherd.herd.repair.repair import repair
from cowherd.herd.report.tree import tree
from cowherd.herd.seals.seal import seal
from cowherd.herd.seals.unseal import unseal
from cowherd.herd.seals.verify import verify
from cowherd.storage.copying import FileRange
from cowherd.storage.hostfile import HostFile
from cowherd.storage.locks import WRITE
from tests.herd.merge.herds import MIB, killed_at
from tests.herd.qemu_herd import content, make_base, make_overlay, noise, write

pytestmark = pytest.mark.qemu("qemu-io")

NAMES = ("overlay", "other", "leaf", "top")


@pytest.fixture
def herd(tmp_path):
    """A sealed base with two clones, and an overlay on each of these."""
    make_base(tmp_path / "base", noise(2 * MIB))
    clone(tmp_path / "base", tmp_path / "overlay")
    clone(tmp_path / "base", tmp_path / "other")
    make_overlay(tmp_path / "leaf", "other")
    make_overlay(tmp_path / "top", "overlay")
    write(tmp_path / "overlay", "write -P 1 0 300k", "write -P 1 1M 64k")
    write(tmp_path / "other", "write -P 2 64k 64k")
    write(tmp_path / "leaf", "write -P 3 100k 10k")
    write(tmp_path / "top", "write -P 4 200k 10k")
    return tmp_path


def shown(herd) -> dict[str, bytes]:
    return {name: content(herd / name) for name in NAMES if (herd / name).exists()}


def interrupted(directory, phase, **options) -> None:
    """Kills a merge in the middle of a phase: in PREPARING before anything was written, in APPLYING after some of it was."""

    def work() -> None:
        advance, written = Journal.advance, []

        def dying(write):
            def once(self, *arguments):
                target = arguments[0] if isinstance(self, FileRange) else self
                if target.path.name in ("base", "base-merged") and written:
                    os._exit(0)
                written.append(target.path)
                return write(self, *arguments)

            return once

        def reached(self, to):
            if phase is Phase.PREPARING:
                os._exit(0)
            advance(self, to)
            written.clear()
            HostFile.pwritev, FileRange.put = dying(HostFile.pwritev), dying(FileRange.put)
            if options.get("strategy") == "fork":
                os._exit(0)

        Journal.advance = reached
        merge(directory / "overlay", **options)

    process = os.fork()
    if not process:
        try:
            work()
        finally:
            os._exit(1)
    assert os.waitpid(process, 0)[1] == 0
    assert journal_path(directory / "base").exists()


def fine(herd) -> bool:
    return all(row.status.is_fine for row in verify(herd=[herd]) + verify(herd=[herd], full=True))


def test_a_merge_that_has_not_begun_to_change_the_base_is_taken_back(herd):
    before = shown(herd)
    base = (herd / "base").read_bytes()
    interrupted(herd, Phase.PREPARING, strategy="preserve")
    (one,) = recover([herd])
    assert (one.outcome, one.left, one.overlay, one.base) == (TAKEN_BACK, [], herd / "overlay", herd / "base")
    assert (herd / "base").read_bytes() == base
    assert shown(herd) == before
    assert fine(herd)


def test_too_little_space_is_found_out_before_recover_writes_anything(tmp_path, monkeypatch):
    make_base(tmp_path / "base", noise(MIB) + bytes(3 * MIB))
    clone(tmp_path / "base", tmp_path / "overlay")
    clone(tmp_path / "base", tmp_path / "other")
    write(tmp_path / "overlay", "write -P 1 0 64k", "write -P 1 2M 1M")
    interrupted(tmp_path, Phase.APPLYING, strategy="preserve")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with monkeypatch.context() as patched:
        patched.setattr("cowherd.storage.space.free_bytes", lambda path: 1000)
        (one,) = recover([tmp_path])
    assert one.outcome == FAILED
    assert isinstance(one.error, NotEnoughSpace)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (one,) = recover([tmp_path])
    assert one.outcome == FINISHED


def test_a_fork_that_is_not_complete_is_taken_back_with_its_file(herd):
    before = {path.name for path in herd.iterdir()}
    interrupted(herd, Phase.PREPARING, strategy="fork")
    assert {path.name for path in herd.iterdir()} > before
    assert [one.outcome for one in recover([herd])] == [TAKEN_BACK]
    assert {path.name for path in herd.iterdir()} == before
    assert fine(herd)


@pytest.mark.parametrize("strategy", ["preserve", "fork"])
def test_a_merge_that_has_begun_to_change_the_base_is_finished(herd, strategy):
    before = shown(herd)
    interrupted(herd, Phase.APPLYING, strategy=strategy)
    assert shown(herd) == before
    (one,) = recover([herd])
    assert (one.outcome, one.left) == (FINISHED, [])
    assert content(herd / ("base" if strategy == "preserve" else "base-merged")) == before["overlay"]
    assert shown(herd) == {name: before[name] for name in ("other", "leaf", "top")}
    assert fine(herd)


@pytest.mark.parametrize("strategy", ["preserve", "fork"])
@pytest.mark.parametrize("keep", ["nothing", "empty", "content"])
def test_what_a_machine_wrote_to_the_overlay_meanwhile_is_merged_too(herd, strategy, keep):
    os.unlink(herd / "top")
    interrupted(herd, Phase.APPLYING, strategy=strategy, keep=keep)
    write(herd / "overlay", "write -P 7 10k 10k", "write -P 8 1900k 100k")
    before = shown(herd)
    (one,) = recover([herd])
    assert (one.outcome, one.left) == (FINISHED, [])
    assert content(herd / ("base" if strategy == "preserve" else "base-merged")) == before["overlay"]
    assert {name: data for name, data in shown(herd).items() if data != before[name]} == {}
    assert fine(herd)


def test_what_a_machine_wrote_to_another_overlay_meanwhile_stays_and_is_mentioned(herd):
    interrupted(herd, Phase.APPLYING, strategy="preserve")
    write(herd / "other", "write -P 7 10k 10k")
    before = shown(herd)
    (one,) = recover([herd])
    assert one.outcome == FINISHED
    assert [path.name for path, _ in one.left] == ["other"]
    assert shown(herd) == {name: before[name] for name in ("other", "leaf", "top")}


@pytest.mark.parametrize("moment", range(1, 24, 3))
def test_a_recovery_that_is_killed_is_recovered(herd, moment):
    before = shown(herd)
    interrupted(herd, Phase.APPLYING, strategy="preserve")
    assert killed_at(moment, lambda: recover([herd]))
    now = shown(herd)
    assert now == {name: before[name] for name in now}
    assert [one.outcome for one in recover([herd])] in ([FINISHED], [])
    assert content(herd / "base") == before["overlay"]
    assert shown(herd) == {name: before[name] for name in ("other", "leaf", "top")}
    assert fine(herd)


@pytest.mark.parametrize("phase", Phase)
def test_verify_and_tree_name_the_way_out(herd, phase):
    interrupted(herd, phase, strategy="preserve")
    for rows in (verify(herd=[herd]), verify(herd=[herd], full=True), verify([herd / "leaf"]), tree([herd]).nodes):
        for row in rows:
            assert row.status is Status.MERGE_INTERRUPTED, row
            assert f"'cowherd recover {herd}'" in row.detail


@pytest.mark.parametrize(
    "change",
    [
        lambda herd: merge(herd / "other"),
        lambda herd: merge(herd / "overlay"),
        lambda herd: clone(herd / "base", herd / "new"),
        lambda herd: seal(herd / "other"),
        lambda herd: unseal(herd / "base", force=True),
        lambda herd: repair(herd / "base"),
        lambda herd: impact(herd / "base"),
        lambda herd: commit(herd / "top"),
        lambda herd: rebase(herd / "leaf", None),
        lambda herd: resize(herd / "leaf", 4 * MIB),
        lambda herd: delete(herd / "leaf"),
        lambda herd: open_image(herd / "leaf", writable=True),
    ],
)
def test_every_change_is_refused_until_then(herd, change):
    interrupted(herd, Phase.APPLYING, strategy="preserve")
    before = {path.name: path.read_bytes() for path in herd.iterdir()}
    with pytest.raises(MergePending, match="cowherd recover") as caught:
        change(herd)
    assert caught.value.exit_code == 3
    assert {path.name: path.read_bytes() for path in herd.iterdir()} == before


def test_a_journal_is_found_from_an_overlay_in_another_directory(herd, tmp_path_factory):
    far = clone(herd / "base", tmp_path_factory.mktemp("far") / "far").overlay
    interrupted(herd, Phase.APPLYING, strategy="preserve", herd=[far.parent])
    assert [row.status for row in verify([far])] == [Status.MERGE_INTERRUPTED, Status.MERGE_INTERRUPTED]
    assert [one.outcome for one in recover([herd])] == [FINISHED]
    assert [row.status for row in verify([far], herd=[herd])] == [Status.OK, Status.OK]


def test_a_herd_that_was_moved_meanwhile_is_recovered_where_it_is(herd, tmp_path_factory):
    before = shown(herd)
    interrupted(herd, Phase.APPLYING, strategy="preserve")
    moved = tmp_path_factory.mktemp("moved") / "herd"
    herd.rename(moved)
    assert [one.outcome for one in recover([moved])] == [FINISHED]
    assert content(moved / "base") == before["overlay"]
    assert shown(moved) == {name: before[name] for name in ("other", "leaf", "top")}


def test_a_recovery_that_can_not_be_made_now_can_be_made_later(herd):
    interrupted(herd, Phase.APPLYING, strategy="preserve")
    with HostFile.open(herd / "other", writable=True, lock=WRITE):
        (one,) = recover([herd])
    assert (one.outcome, type(one.error)) == (FAILED, ImageInUse)
    assert [one.outcome for one in recover([herd])] == [FINISHED]


def test_a_merge_that_runs_is_left_alone(herd):
    interrupted(herd, Phase.APPLYING, strategy="preserve")
    path = journal_path(herd / "base")
    journal = Journal.open(path)
    try:
        assert look_at(path).running
        assert [type(one.error) for one in recover([herd])] == [ImageInUse]
        with pytest.raises(MergePending, match="is running"):
            seal(herd / "other")
        rows = {row.path.name: row for row in verify(herd=[herd])}
        assert (rows["base"].status, "is running" in rows["base"].detail) == (Status.TOUCHED, True)
    finally:
        journal.close()
    assert not look_at(path).running


@pytest.mark.parametrize("damage", [lambda data: data[:20], lambda data: data[:60], lambda data: data[:40] + b"x" + data[41:]])
def test_a_damaged_journal_stops_everything_and_is_not_removed(herd, damage):
    interrupted(herd, Phase.APPLYING, strategy="preserve")
    path = journal_path(herd / "base")
    path.write_bytes(damage(path.read_bytes()))
    (one,) = recover([herd])
    assert (one.outcome, type(one.error)) == (FAILED, ImageFormatError)
    assert {row.path.name: row.status for row in verify(herd=[herd])}["base"] is Status.MERGE_INTERRUPTED
    with pytest.raises(MergePending):
        clone(herd / "base", herd / "new")
    assert path.exists()


def test_a_phase_that_was_cut_short_was_not_reached(herd):
    interrupted(herd, Phase.APPLYING, strategy="preserve")
    path = journal_path(herd / "base")
    whole = path.read_bytes()
    for length in range(1, 9):
        path.write_bytes(whole[:-length])
        assert look_at(path).phase is Phase.PREPARING
    path.write_bytes(whole)
    assert look_at(path).phase is Phase.APPLYING


def test_there_is_one_journal_for_a_base(herd):
    interrupted(herd, Phase.PREPARING, strategy="preserve")
    path = journal_path(herd / "base")
    entry = look_at(path).entry
    with pytest.raises(HostFileError, match="File exists"):
        Journal.create(path, entry)
    assert list(herd.glob(".cowherd-*")) == []


def test_somebody_elses_file_with_such_a_name_is_left_alone(herd):
    (herd / "notes.merge").write_text("which branch to merge next")
    assert recover([herd]) == []
    assert fine(herd)
    merge(herd / "overlay")
    assert (herd / "notes.merge").exists()


def test_a_directory_that_is_not_there_is_an_error(herd):
    interrupted(herd, Phase.PREPARING, strategy="preserve")
    with pytest.raises(HostFileError, match="No such file"):
        recover([herd / "typo"])
    assert journal_path(herd / "base").exists()


def test_where_nothing_was_interrupted_nothing_is_done(herd):
    assert recover([herd]) == []


@pytest.mark.parametrize("unseen", ["top", "other", "leaf"])
@pytest.mark.parametrize("phase", list(Phase))
def test_what_can_not_be_read_is_not_taken_for_gone(herd, monkeypatch, unseen, phase):
    before = shown(herd)
    interrupted(herd, phase, strategy="preserve", keep="nothing")

    def refusing(path):
        if path == str(herd / unseen):
            raise PermissionError(errno.EACCES, "Permission denied")
        return read_image(path)

    for reader in (reading, concerned):
        monkeypatch.setattr(reader, "read_image", refusing)
    (one,) = recover([herd])
    assert (one.outcome, type(one.error)) == (FAILED, HostFileError)
    assert f"Could not read '{herd / unseen}': Permission denied" in str(one.error)
    assert journal_path(herd / "base").exists()
    monkeypatch.undo()
    assert [one.outcome for one in recover([herd])] == [TAKEN_BACK if phase is Phase.PREPARING else FINISHED]
    assert {name: before[name] for name in shown(herd)} == shown(herd)
    assert fine(herd)


def test_an_overlay_of_which_the_host_can_not_tell_is_not_taken_for_gone(herd, monkeypatch):
    before = shown(herd)
    interrupted(herd, Phase.APPLYING, strategy="preserve", keep="nothing")
    stat = os.stat

    def failing(path, *arguments, **options):
        if path == herd / "overlay":
            raise OSError(errno.EIO, "Input/output error")
        return stat(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", failing)
    (one,) = recover([herd])
    monkeypatch.undo()
    assert (one.outcome, type(one.error)) == (FAILED, HostFileError)
    assert [one.outcome for one in recover([herd])] == [FINISHED]
    assert {name: before[name] for name in shown(herd)} == shown(herd)
    assert fine(herd)


def test_a_directory_that_fails_is_not_one_without_journals(herd, monkeypatch):
    interrupted(herd, Phase.APPLYING, strategy="preserve")
    below, scandir = herd / "below", os.scandir
    below.mkdir()

    def failing(path):
        if os.fspath(path) == str(below):
            raise OSError(errno.EIO, "Input/output error", str(below))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    with pytest.raises(HostFileError, match="Could not look through"):
        recover([herd])
    monkeypatch.undo()
    assert [one.outcome for one in recover([herd])] == [FINISHED]


def test_a_merge_is_not_over_while_an_overlay_can_not_be_read(herd, monkeypatch):
    before = shown(herd)
    seal(herd / "other")
    looked = phases.survey_again

    def blind(lineage):
        def refusing(path):
            if path == str(herd / "other"):
                raise OSError(errno.EIO, "Input/output error")
            return read_image(path)

        with monkeypatch.context() as patch:
            for reader in (reading, concerned):
                patch.setattr(reader, "read_image", refusing)
            return looked(lineage)

    advance = Journal.advance

    def at_the_end(self, to):
        advance(self, to)
        monkeypatch.setattr(phases, "survey_again", blind)

    monkeypatch.setattr(Journal, "advance", at_the_end)
    with pytest.raises(MergeInterrupted, match="Could not read"):
        merge(herd / "overlay", strategy="preserve")
    monkeypatch.undo()
    assert [one.outcome for one in recover([herd])] == [FINISHED]
    assert {name: before[name] for name in shown(herd)} == shown(herd)
    assert fine(herd)
