"""Machines that run on deleted disks, as /proc shows them, and what the doctor makes of it."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from cowherd.cli.guard.main import main
from cowherd.herd.doctor.doctor import doctor
from cowherd.herd.doctor.finding import Kind
from cowherd.live import gone
from cowherd.live.glance import glance_at
from cowherd.live.holders import NOTHING
from tests.herd.qemu_herd import content, make_base, noise
from tests.live.machines import machine as machine_on
from tests.qmp import waiting_machine

pytestmark = pytest.mark.qemu("qemu-system-x86_64")

MIB = 1 << 20


@pytest.fixture
def machine(tmp_path):
    """A real QEMU on the disk `herd/disk`; gives its directory."""
    (tmp_path / "herd").mkdir()
    disk = make_base(tmp_path / "herd" / "disk", noise(MIB))
    description = {"driver": "qcow2", "node-name": "disk", "file": {"driver": "file", "filename": str(disk)}}
    arguments = ["-name", "web", "-blockdev", json.dumps(description), "-device", "virtio-blk-pci,drive=disk"]
    with waiting_machine(arguments, tmp_path):
        yield disk.parent


def gone_under(directory):
    """What is gone of a test's own files: other machines may run on this host."""
    return [disk for disk in glance_at(NOTHING, only_machines=True).gone if disk.path.startswith(f"{directory}/")]


def findings(directory):
    return [one for one in doctor([directory]).findings if one.kind in (Kind.RUNNING_ON_DELETED, Kind.RUNNING_ON_REPLACED)]


def test_a_machine_on_a_disk_that_is_there_is_no_finding(machine):
    assert gone_under(machine) == []
    assert findings(machine) == []


def test_a_deleted_disk_is_the_worst_finding_and_the_remedy_saves_it(machine, capsys):
    (machine / "copy").write_bytes((machine / "disk").read_bytes())
    (machine / "disk").unlink()
    (finding,) = findings(machine)
    assert doctor([machine]).findings[0] == finding
    assert (finding.kind, finding.path) == (Kind.RUNNING_ON_DELETED, machine / "disk")
    assert "machine web" in finding.detail
    subprocess.run(finding.remedy, check=True)
    assert content(machine / "disk.rescued") == content(machine / "copy")
    assert main(["tree", str(machine)]) == 0
    assert "it was deleted while qemu-system-x86_64 (pid" in capsys.readouterr().err
    assert main(["doctor", str(machine)]) == 4
    capsys.readouterr()
    assert main(["tree", "--json", str(machine)]) == 0
    (gone,) = json.loads(capsys.readouterr().out)["running_on_gone"]
    assert (gone["path"], gone["replaced"]) == (str(machine / "disk"), False)


def test_a_disk_that_was_replaced_under_its_name_is_told_apart(machine):
    make_base(machine / "new", noise(MIB, 3))
    os.rename(machine / "new", machine / "disk")
    (finding,) = findings(machine)
    assert (finding.kind, finding.path) == (Kind.RUNNING_ON_REPLACED, machine / "disk")
    assert finding.remedy[:2] == ("cp", "--sparse=always")


def test_a_disk_that_has_another_name_is_not_gone(machine):
    os.rename(machine / "disk", machine / "moved")
    assert gone_under(machine) == []


def test_other_programs_may_have_deleted_files_open(tmp_path):
    with (tmp_path / "file").open("wb"):
        (tmp_path / "file").unlink()
        assert gone_under(tmp_path) == []


@pytest.mark.parametrize("root", ["/", "own"])
def test_a_successor_is_looked_for_in_the_process_s_own_root(tmp_path, monkeypatch, root):
    top = tmp_path / root  # "/" is the root itself
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "disk").touch()
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "root").symlink_to(top)
    monkeypatch.setattr(gone, "PROC", str(tmp_path))
    assert gone.has_successor(7, str(tmp_path / "own" / "disk"))
    assert not gone.has_successor(7, str(tmp_path / "own" / "other"))
    assert gone.has_successor(7, str(tmp_path / "7" / "root"))


def test_two_machines_that_lose_disks_of_one_name_are_each_saved_to_a_name_of_their_own(tmp_path):
    for number in range(2):
        make_base(tmp_path / f"new{number}", noise(MIB, number))
    os.rename(tmp_path / "new0", tmp_path / "disk")
    with machine_on(tmp_path, "-drive", "file=disk,if=virtio"):
        os.rename(tmp_path / "new1", tmp_path / "disk")
        with machine_on(tmp_path, "-drive", "file=disk,if=virtio", monitor="second"):
            (tmp_path / "disk").unlink()
            remedies = [one.remedy for one in findings(tmp_path)]
    assert {remedy[-1] for remedy in remedies} == {str(tmp_path / name) for name in ("disk.rescued", "disk.rescued2")}
    assert len({remedy[2] for remedy in remedies}) == 2
