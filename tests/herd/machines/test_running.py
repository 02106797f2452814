"""Which machines run on the images of a herd."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cowherd.herd.lineage.survey import survey
from cowherd.herd.machines import running as module
from cowherd.herd.machines.running import NOTHING_RUNS, hidden_in_words, in_words, look_at, running_on
from cowherd.live import glance
from cowherd.live.holders import PROC
from tests.herd.qemu_herd import make_base, make_overlay, noise, qemu_img
from tests.live.machines import machine
from tests.storage.hosts import as_nobody, loop_device, public_directory, running

pytestmark = pytest.mark.qemu("qemu-system-x86_64", "qemu-storage-daemon", "qemu-io")


@pytest.fixture
def herd(tmp_path):
    """base <- a <- a1, base <- b"""
    directory = tmp_path / "herd"
    directory.mkdir()
    make_base(directory / "base", noise(1 << 20))
    for name, base in (("a", "base"), ("a1", "a"), ("b", "base")):
        make_overlay(directory / name, base)
    return directory


def told(herd, runs):
    """The names of the machines on each image, and the number of running overlays of each base, by the images' names."""
    names = {image.key: image.path.name for image in survey([herd]).images.values()}
    machines = {names[key]: [machine.name for machine in machines] for key, machines in runs.machines.items()}
    return machines, {names[key]: number for key, number in runs.overlays.items()}


def disk(name, *more):
    return ("-name", f"machine-{name}", "-drive", ",".join((f"file={name}", "if=virtio", *more)))


def test_a_machine_runs_on_the_uppermost_image_of_its_chain_and_counts_for_all_below(herd):
    with machine(herd, *disk("a1")):
        assert told(herd, running_on(survey([herd]))) == ({"a1": ["machine-a1"]}, {"a": 1, "base": 1})


def test_two_machines_on_one_image_are_one_overlay_that_runs(herd):
    with machine(herd, *disk("a1", "readonly=on")), machine(herd, *disk("a1", "readonly=on")), machine(herd, *disk("b")):
        machines, overlays = told(herd, running_on(survey([herd])))
    assert machines == {"a1": ["machine-a1"] * 2, "b": ["machine-b"]}
    assert overlays == {"a": 1, "base": 2}


def test_a_machine_on_a_base_itself_runs_on_it(herd):
    with machine(herd, *disk("base", "readonly=on")):
        assert told(herd, running_on(survey([herd]))) == ({"base": ["machine-base"]}, {})


def test_an_external_data_file_is_below_its_image(herd):
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={herd / 'data.raw'}", herd / "with-data", "1M")
    with machine(herd, *disk("with-data")):
        machines, overlays = told(herd, running_on(survey([herd])))
    assert machines == {"with-data": ["machine-with-data"]}
    assert overlays == {"data.raw": 1}


def test_a_disk_server_without_a_name_is_told_by_its_program(herd):
    words = ("--blockdev", "file,node-name=f,filename=b", "--blockdev", "qcow2,node-name=q,file=f")
    ready = ("--chardev", "socket,path={},server=on,wait=off,id=m", "--monitor", "chardev=m")
    with machine(herd, *words, command=("qemu-storage-daemon",), ready=ready):
        machines, _ = told(herd, running_on(survey([herd])))
    assert machines == {"b": ["qemu-storage-daemon"]}


def test_a_tool_of_qemu_and_other_programs_are_no_machines(herd):
    opens = "import sys; file = open(sys.argv[1], 'r+b'); print('open', flush=True); sys.stdin.read()"
    with running("qemu-io", herd / "b", until="qemu-io> "), running(sys.executable, "-c", opens, herd / "a1", until="open"):
        seen = look_at(survey([herd]), only_machines=False)
    assert told(herd, seen) == ({}, {})
    assert len(seen.glance.holders) > 1


def test_a_machine_says_what_it_is(herd):
    with machine(herd, *disk("b")) as process:
        (machines,) = running_on(survey([herd])).machines.values()
    facts = machines[0].to_json()
    assert (facts["pid"], facts["command"], facts["machine"], facts["domain"], facts["writing"]) == (
        process.pid,
        "qemu-system-x86_64",
        "machine-b",
        None,
        True,
    )
    assert facts["user"]


def test_a_block_device_is_told_by_its_number(herd, tmp_path):
    (herd / "file").write_bytes(noise(1 << 20))
    with loop_device(herd / "file") as device:
        qemu_img("create", "-q", "-f", "qcow2", "-b", device, "-F", "raw", herd / "on-device")
        os.mknod(tmp_path / "node", 0o60600, os.stat(device).st_rdev)
        with machine(herd, "-drive", f"file={tmp_path / 'node'},if=virtio,format=raw,file.locking=off"):
            seen = running_on(survey([herd]))
            lineage = survey([herd])
    assert [lineage.images[key].path for key in seen.machines] == [device]


def test_machines_that_may_not_be_looked_into_are_counted_and_nothing_is_said_of_them():
    with public_directory() as public:
        make_base(public / "base", noise(1 << 20))
        make_overlay(public / "b", "base")
        with machine(public, *disk("b")), as_nobody(public):
            lineage = survey([public])
            seen = running_on(lineage)
    assert len(lineage.images) == 2
    assert (seen.machines, seen.overlays) == ({}, {})
    assert seen.hidden >= 1


def test_other_processes_that_may_not_be_looked_into_are_not_counted(herd, monkeypatch):
    with subprocess.Popen(["sleep", "60"]) as other:
        with as_nobody(herd.parent):
            monkeypatch.setattr(glance, "processes", lambda: [other.pid])
            assert running_on(survey(["herd"])).hidden == 0
            assert look_at(survey(["herd"]), only_machines=False).hidden == 0
        other.kill()


def test_without_a_proc_nothing_is_seen(herd, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "PROC", str(tmp_path / "none"))
    assert running_on(survey([herd])) == NOTHING_RUNS
    assert os.path.isdir(PROC)


def test_the_words_claim_no_more_than_was_seen(herd):
    with machine(herd, *disk("b")) as process:
        (machines,) = running_on(survey([herd])).machines.values()
    assert in_words(machines, 0, 0, hidden=0) == f"running: machine-b (pid {process.pid})"
    assert in_words((), 2, 3, hidden=0) == "2 of 3 overlays run"
    assert in_words((), 1, 1, hidden=4) == "at least 1 of 1 overlay runs"
    assert in_words((), 0, 3, hidden=4) == ""
    assert hidden_in_words(4).startswith("4 machines may not be looked into")
