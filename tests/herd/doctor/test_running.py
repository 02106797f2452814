"""What the doctor says of running machines: the faults that `ps` finds, as findings about the herd's images."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from cowherd.cli.guard.main import main
from cowherd.herd.doctor.doctor import doctor
from cowherd.herd.doctor.finding import Kind
from cowherd.herd.doctor.running import kind_of
from cowherd.herd.merge.merge import merge
from cowherd.live import qmp
from cowherd.live.running_faults import Fault
from tests.herd.merge.herds import killed_at
from tests.herd.qemu_herd import make_base, make_overlay, noise, qemu_img, write
from tests.live.machines import machine
from tests.live.test_running import name_other_base
from tests.qmp import Monitor
from tests.storage.hosts import as_nobody, public_directory, running

pytestmark = pytest.mark.qemu("qemu-system-x86_64")

PAGE = Path(__file__).parents[3] / "docs" / "daily.md"
CLIENT = """
import socket, sys
monitor = socket.socket(socket.AF_UNIX)
monitor.connect(sys.argv[1])
print(monitor.recv(4096), flush=True)
sys.stdin.read()
"""
RUNNING = {kind_of(fault) for fault in Fault}


@pytest.fixture
def herd(tmp_path):
    """A base with two overlays."""
    directory = tmp_path / "herd"
    directory.mkdir()
    make_base(directory / "base", noise(1 << 20))
    for name in ("a", "b"):
        make_overlay(directory / name, "base")
    return directory


def disk(name, *more):
    return ("-name", f"machine-{name}", "-drive", ",".join((f"file={name}", "if=virtio,id=disk", *more)))


def found(herd):
    """The findings about running machines, as (kind, name of the image)."""
    return [(one.kind, one.path.name) for one in doctor([herd]).findings if one.kind in RUNNING]


def test_every_fault_has_a_kind_of_its_own_and_all_but_what_is_hidden_are_more_than_notes():
    kinds = [kind_of(fault) for fault in Fault]
    assert len(set(kinds)) == len(kinds)
    assert [kind for kind in kinds if kind.is_note] == [Kind.HIDDEN]


def test_every_kind_is_explained():
    page = PAGE.read_text()
    assert [kind.value for kind in RUNNING if f"`{kind.value}`" not in page] == []


def test_a_machine_that_runs_as_it_should_is_no_finding(herd):
    with machine(herd, *disk("a"), monitor="monitor"):
        assert found(herd) == []


def test_a_machine_without_locks_is_named_at_its_image(herd):
    with machine(herd, *disk("a", "file.locking=off")) as process:
        (finding,) = [one for one in doctor([herd]).findings if one.kind is Kind.NO_LOCKS]
    assert finding.path == herd / "a"
    assert f"(pid {process.pid}, user " in finding.detail
    assert "machine machine-a" in finding.detail


def test_two_that_write_to_one_image_are_the_worst_finding(herd):
    with machine(herd, *disk("a", "file.locking=off")) as one, machine(herd, *disk("a", "file.locking=off")) as other:
        finding = doctor([herd]).findings[0]
    assert (finding.kind, finding.path) == (Kind.TWO_WRITERS, herd / "a")
    assert all(f"pid {process.pid}," in finding.detail for process in (one, other))


def test_a_header_that_names_another_base_than_the_machine_has_is_told(herd):
    make_base(herd / "other", noise(1 << 20, 1))
    with machine(herd, *disk("a"), monitor="monitor"):
        name_other_base(herd / "a")
        assert found(herd) == [(Kind.CHAIN_DIFFERS, "a")]


def test_a_base_that_was_replaced_and_a_disk_that_was_deleted_are_each_told_once(herd):
    with machine(herd, *disk("a")), machine(herd, *disk("b"), monitor="monitor"):
        shutil.copy(herd / "base", herd / "new")
        os.rename(herd / "new", herd / "base")
        os.unlink(herd / "a")
        findings = [one for one in doctor([herd]).findings if one.kind in (Kind.RUNNING_ON_DELETED, Kind.RUNNING_ON_REPLACED)]
        assert sorted((one.kind.value, one.path.name) for one in findings) == [
            ("running-on-deleted", "a"),
            ("running-on-replaced", "base"),
        ]
        assert all(one.remedy[2].startswith("/proc/") for one in findings)
    assert main(["doctor", str(herd)]) in (0, 4)


def test_a_disk_that_has_only_another_name_is_told_without_a_copy_of_it(herd):
    with machine(herd, *disk("a"), monitor="monitor"):
        os.rename(herd / "a", herd / "moved")
        findings = [one for one in doctor([herd]).findings if one.kind is Kind.RUNNING_ON_DELETED]
    assert [(one.path.name, one.remedy) for one in findings] == [("a", ())]


def test_a_job_that_waits_is_told_at_the_image_that_its_machine_runs_on(herd, tmp_path):
    qemu_img("create", "-q", "-f", "qcow2", tmp_path / "copy", "1M")
    with machine(herd, *disk("b"), monitor="monitor"):
        talk = Monitor(herd / "monitor")
        target = {"target": str(tmp_path / "copy"), "mode": "existing"}
        talk("drive-mirror", **{"job-id": "job", "device": "disk", **target}, sync="full")
        while talk("query-jobs")[0]["status"] != "ready":
            pass
        talk.close()
        assert found(herd) == [(Kind.JOB_WAITING, "b")]


def test_a_machine_that_is_stopped_does_not_answer(herd, monkeypatch):
    monkeypatch.setattr(qmp, "CONNECT_SECONDS", 0.6)
    with machine(herd, *disk("a"), monitor="monitor") as process:
        process.send_signal(signal.SIGSTOP)
        seen = doctor([herd])
        process.send_signal(signal.SIGCONT)
    assert [(one.kind, one.path.name) for one in seen.findings if one.kind in RUNNING] == [(Kind.NOT_ANSWERING, "a")]
    assert seen.not_asked == ()


def test_a_machine_that_serves_another_client_is_no_finding_and_said_not_to_have_been_asked(herd, monkeypatch):
    monkeypatch.setattr(qmp, "CONNECT_SECONDS", 0.6)
    with (
        machine(herd, *disk("a"), monitor="monitor"),
        running(sys.executable, "-c", CLIENT, herd / "monitor", until="QMP") as client,
    ):
        seen = doctor([herd])
    assert [one for one in seen.findings if one.kind in RUNNING] == []
    (reason,) = seen.not_asked
    assert "serves another client" in reason
    assert f"pid {client.pid}" in reason


LEFT = ("-blockdev", "driver=null-co,node-name=cowherd-left")


def test_what_is_left_over_in_a_machine_is_told_at_the_image_that_it_runs_on(herd):
    with machine(herd, *disk("a"), *LEFT, monitor="monitor"):
        assert found(herd) == [(Kind.LEFTOVER, "a")]


def test_what_a_merge_that_is_not_at_its_end_has_made_in_a_machine_is_not_left_over(herd):
    write(herd / "a", "write -P 2 100k 64k")
    assert killed_at(9, lambda: merge(herd / "a", strategy="preserve"))
    with machine(herd, *disk("b"), *LEFT, monitor="monitor"):
        assert [one.kind for one in doctor([herd]).findings if one.kind in (Kind.LEFTOVER, Kind.MERGE_INTERRUPTED)] == [
            Kind.MERGE_INTERRUPTED
        ]


def test_what_is_wrong_with_images_of_elsewhere_is_no_finding_of_this_herd(herd, tmp_path):
    make_base(tmp_path / "elsewhere", noise(1 << 16))
    other = ("-drive", "file=../elsewhere,if=virtio,file.locking=off")
    with machine(herd, *disk("a"), *other):
        assert found(herd) == []
        assert found(tmp_path) == [(Kind.NO_LOCKS, "elsewhere")]


def test_that_the_package_for_asking_is_missing_is_said_only_where_a_machine_has_a_monitor(herd, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "qemu.qmp", None)
    with machine(herd, *disk("a")):
        main(["doctor", str(herd)])
    assert "not every machine was asked" not in capsys.readouterr().out
    with machine(herd, *disk("b"), monitor="monitor"):
        main(["doctor", str(herd)])
    assert "not every machine was asked: asking machines needs the package qemu.qmp" in capsys.readouterr().out


def test_machines_that_may_not_be_looked_into_are_a_note():
    with public_directory() as public:
        make_base(public / "base", noise(1 << 20))
        make_overlay(public / "b", "base")
        with machine(public, *disk("b")), as_nobody(public):
            diagnosis = doctor([public])
    (finding,) = [one for one in diagnosis.findings if one.kind in RUNNING]
    assert (finding.kind, finding.path.name) == (Kind.HIDDEN, public.name)
    assert "may not be looked into" in finding.detail
