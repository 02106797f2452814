"""What notices and findings mean: the watch without a kernel and without a clock."""

from __future__ import annotations

import os

import pytest

import cowherd
from cowherd.herd.records.journal import Journal, Phase
from cowherd.herd.watch.examine import Finding, Outcome, examine
from cowherd.herd.watch.stock import take_stock
from cowherd.herd.watch.watch import Watch
from cowherd.live.notices import Notice, What
from tests.herd.qemu_herd import write
from tests.herd.watch.watcher import unwaited
from tests.storage.hosts import running

SETTLE = 2.0


class Watched:
    """A watch over the herd of a base, with the events that it reports."""

    def __init__(self, base):
        self.base, self.events = base, []
        self.watch = Watch(self.events.append, SETTLE)
        self.watch.adopt(take_stock([base.parent]), 0.0)

    def hear(self, what: What, pid: int | None, now: float, path=None) -> None:
        self.watch.hear(Notice(what, path or self.base, pid), now)

    def examine(self, now: float, **changes) -> Finding:
        """Examines the base, if it is due, as the worker does."""
        assert self.watch.due(now) == [self.base]
        stock = take_stock([self.base.parent])
        self.watch.adopt(stock, now)
        finding = examine(stock, self.base, None, always_read=False, suspicious=self.watch.found_suspicious)
        self.watch.conclude(Finding(**{**vars(finding), **changes}), now)
        return finding

    def told(self) -> list[str]:
        return [event.kind.value for event in self.events]


@pytest.fixture
def watched(base):
    return Watched(base)


@pytest.fixture
def writer():
    """A process that is no cowherd."""
    with running("sh", "-c", "echo ready; read line", until="ready") as process:
        yield process.pid


def test_a_process_is_told_once_however_often_it_writes(watched, writer):
    for moment in range(1000):
        watched.hear(What.WRITTEN, writer, moment / 1000)
    assert watched.told() == ["written"]
    assert watched.watch.known[watched.base].writes == 1000


def test_another_process_is_told_too(watched, writer):
    watched.hear(What.WRITTEN, writer, 0.0)
    with running("sh", "-c", "echo ready; read line", until="ready") as other:
        watched.hear(What.WRITTEN, other.pid, 0.1)
    assert [event.processes[0].pid for event in watched.events] == [writer, other.pid]


def test_a_close_without_a_write_is_none(watched, writer):
    watched.hear(What.CLOSED, writer, 0.0)
    watched.examine(SETTLE)
    assert watched.told() == []


def test_a_write_through_mapped_memory_shows_at_the_close(watched, writer):
    os.utime(watched.base)
    watched.hear(What.CLOSED, writer, 0.0)
    assert watched.told() == ["written"]


def test_what_the_watch_does_itself_is_not_heard(watched):
    watched.hear(What.WRITTEN, os.getpid(), 0.0)
    assert watched.watch.incidents == {}


def test_a_writer_that_nobody_can_name_is_told_once_the_file_is_found_changed(watched):
    write(watched.base, "write -P 1 0 64k")
    watched.hear(What.WRITTEN, None, 0.0)
    assert watched.told() == []
    watched.examine(SETTLE)
    assert watched.told() == ["written", "drifted"]


def test_a_base_that_changes_while_it_is_read_is_not_called_intact(watched, writer):
    watched.hear(What.WRITTEN, writer, 0.0)
    os.utime(watched.base)
    watched.examine(SETTLE, still_changing=True)
    assert watched.told() == ["written"]
    assert watched.base in watched.watch.incidents
    watched.examine(2 * SETTLE)
    assert watched.told() == ["written", "intact"]


def test_drift_is_told_once_and_again_when_it_becomes_other_drift(watched, writer):
    write(watched.base, "write -P 1 0 64k")
    watched.watch.examine_soon([watched.base], 0.0)
    watched.examine(SETTLE)
    watched.watch.examine_soon([watched.base], 10.0)
    watched.examine(10.0 + SETTLE)
    assert watched.told() == ["drifted"]
    write(watched.base, "write -P 1 1M 64k")
    watched.watch.examine_soon([watched.base], 20.0)
    watched.examine(20.0 + SETTLE)
    assert [event.facts["blocks"] for event in watched.events] == [1, 2]


def test_an_overlay_that_only_a_snapshot_of_is_hit_is_told(watched, qemu_img):
    shielded = watched.base.with_name("shielded.qcow2")
    for name in ("torn", "fresh"):
        watched.base.with_name(f"{name}.qcow2").unlink()
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", "", shielded)
    shielded.unlink()
    cowherd.clone(watched.base, shielded)
    write(shielded, "write -P 7 64k 64k")
    qemu_img("snapshot", "-c", "before", shielded)
    write(shielded, "write -P 9 0 3M")
    write(watched.base, "write -P 1 0 64k")
    watched.watch.examine_soon([watched.base], 0.0)
    watched.examine(SETTLE)
    (event,) = watched.events
    assert "hit: shielded.qcow2 (its snapshot before torn)" in event.message
    assert event.facts["overlays"][0]["snapshots"] == [{"id": "1", "name": "before", "verdict": "torn"}]


def test_during_a_merge_a_write_is_no_alarm(watched, writer, monkeypatch):
    advance = Journal.advance

    def advance_and_be_seen(journal: Journal, phase: Phase) -> None:
        advance(journal, phase)
        watched.hear(What.WRITTEN, writer, 0.0)

    monkeypatch.setattr(Journal, "advance", advance_and_be_seen)
    cowherd.merge(watched.base.parent / "torn.qcow2")
    assert watched.told() == ["changing"]
    watched.examine(SETTLE)
    assert watched.told() == ["changing", "resealed"]


def test_an_overflow_has_everything_looked_at_again(watched):
    watched.watch.hear(Notice(What.OVERFLOW, None), 0.0)
    assert watched.told() == ["overflow"]
    assert watched.watch.wants_stock
    assert watched.watch.due(SETTLE) == [watched.base]


def test_a_change_that_no_notice_told_of_is_swept_up(watched):
    watched.watch.examine_soon([watched.base], 0.0)
    watched.examine(SETTLE)
    watched.watch.sweep(10.0)
    assert watched.watch.incidents == {}
    write(watched.base, "write -P 1 0 64k")
    watched.watch.sweep(20.0)
    watched.examine(20.0 + SETTLE)
    assert watched.told() == ["written", "drifted"]


def test_a_base_that_leaves_without_dependents_is_no_alarm(watched):
    for name in ("torn", "fresh", "shielded"):
        cowherd.delete(watched.base.parent / f"{name}.qcow2")
    watched.watch.adopt(take_stock([watched.base.parent]), 0.0)
    with unwaited("rm", watched.base) as pid:
        watched.hear(What.VANISHED, pid, 1.0)
    watched.examine(1.0 + SETTLE)
    assert {event.level.name for event in watched.events} == {"NOTICE"}
    assert watched.watch.known == {}


def test_an_image_that_the_host_refuses_is_tried_again(watched):
    watched.watch.examine_soon([watched.base], 0.0)
    watched.examine(SETTLE, outcome=Outcome.UNREADABLE, detail="Input/output error")
    assert watched.told() == ["unreadable"]
    assert watched.watch.next_due() < float("inf")
