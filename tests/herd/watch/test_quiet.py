"""What cowherd itself does, and what changes nothing, is no alarm."""

from __future__ import annotations

import subprocess
import sys

import pytest

import cowherd
from tests.herd.qemu_herd import make_base, noise, write
from tests.herd.watch.watcher import environment, guard, watching
from tests.storage.hosts import running


def alarms_until_now(watch, base) -> list[str]:
    """The alarms about everything done so far: what is done to another image now is examined, and told, after that."""
    marker = make_base(base.with_name("marker.qcow2"), noise(65536))
    cowherd.seal(marker)
    while watch.wait_for("sealed")["base"] != str(marker):
        pass
    write(marker, "write -P 1 0 64k")
    while watch.wait_for("drifted")["base"] != str(marker):
        pass
    return [event["event"] for event in watch.alarms() if event["base"] != str(marker)]


@pytest.fixture(params=["fanotify", "inotify"])
def options(request) -> list[str]:
    return ["--inotify"] if request.param == "inotify" else []


def test_a_merge_and_its_new_seal(base, options):
    with watching(base.parent, *options) as watch:
        guard("merge", base.parent / "torn.qcow2")
        event = watch.wait_for("resealed")
        assert alarms_until_now(watch, base) == []
    assert (event["generation"], event["level"]) == (2, "notice")


def test_seal_reseal_and_unseal(base):
    lonely = make_base(base.with_name("lonely.qcow2"), noise(65536, seed=3))
    with watching(base.parent) as watch:
        guard("seal", base, "--level", "readonly", "--bind")
        guard("seal", lonely)
        assert watch.wait_for("sealed")["base"] == str(lonely)
        guard("unseal", lonely)
        assert watch.wait_for("unsealed")["level"] == "notice"
        guard("seal", base, "--level", "immutable")
        guard("seal", base, "--level", "recorded")
        assert alarms_until_now(watch, base) == []


def test_a_merge_that_preserves_what_a_sealed_overlay_shows(base):
    golden = base.parent / "fresh.qcow2"
    cowherd.seal(golden)
    with watching(base.parent) as watch:
        guard("merge", base.parent / "torn.qcow2", "--strategy", "preserve")
        assert alarms_until_now(watch, base) == []


def test_a_machine_that_reads_through_the_base_and_writes_to_its_overlay(base):
    with watching(base.parent) as watch:
        write(base.parent / "fresh.qcow2", "read 0 1M", "write -P 3 0 1M")
        with running("qemu-io", "-r", "-f", "qcow2", base, until="qemu-io> "):
            assert alarms_until_now(watch, base) == []


def test_a_seal_for_what_cowherd_writes_into_a_sealed_overlay(base):
    golden = base.parent / "fresh.qcow2"
    cowherd.seal(golden)
    with watching(base.parent) as watch:
        guard("move", base, base.with_name("renamed.qcow2"))
        assert watch.wait_for("sealed")["base"] == str(base.with_name("renamed.qcow2"))
        assert alarms_until_now(watch, base) == []


def test_a_repair_of_a_drifted_base(base):
    subprocess.run(["cp", base, base.with_name("donor.qcow2")], check=True)
    write(base, "write -P 1 2M 64k")
    with watching(base.parent) as watch:
        watch.wait_for("drifted")
        guard("repair", base, "--from", base.with_name("donor.qcow2"))
        watch.wait_for("intact", "resealed")
    assert watch.kinds().count("drifted") == 1
    assert "written" not in watch.kinds()


def test_an_interrupted_merge_is_told_with_its_remedy(base):
    script = "import os, sys; from cowherd.storage.hostfile import HostFile; from cowherd.cli.guard.main import main\n"
    script += "HostFile.pwrite = lambda *a: os._exit(9)\nmain(['merge', sys.argv[1]])"
    with watching(base.parent) as watch:
        command = [sys.executable, "-c", script, base.parent / "torn.qcow2"]
        done = subprocess.run(command, env=environment(), check=False, capture_output=True)
        assert done.returncode == 9
        event = watch.wait_for("interrupted")
    assert "cowherd recover" in event["message"]
