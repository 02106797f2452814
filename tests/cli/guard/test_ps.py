from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cowherd.cli.guard.main import main
from cowherd.live.running_faults import Fault
from tests.herd.qemu_herd import make_base, make_overlay, noise
from tests.live.machines import machine

PAGE = Path(__file__).parents[3] / "docs" / "live.md"

pytestmark = pytest.mark.qemu("qemu-system-x86_64")


@pytest.fixture
def herd(tmp_path):
    make_base(tmp_path / "base", noise(1 << 20))
    for name in "abc":
        make_overlay(tmp_path / name, "base")
    return tmp_path


def disk(name, *more):
    return ("-name", f"machine-{name}", "-drive", ",".join((f"file={name}", "if=virtio", *more)))


def test_one_machine_without_locks_one_replaced_and_one_deleted_are_told_in_one_call(herd, capsys):
    with machine(herd, *disk("a", "file.locking=off")), machine(herd, *disk("b"), monitor="monitor"), machine(herd, *disk("c")):
        (herd / "new").write_bytes((herd / "b").read_bytes())
        os.rename(herd / "new", herd / "b")
        os.unlink(herd / "c")
        code = main(["ps", "--json", "--image", str(herd / "base")])
    document = json.loads(capsys.readouterr().out)
    assert code == 4
    found = {(one["kind"], os.path.basename(one["image"] or "")) for one in document["findings"]}
    assert {("no-locks", "a"), ("replaced", "b"), ("deleted", "c")} <= found
    assert {one["machine"] for one in document["processes"]} == {"machine-a", "machine-b", "machine-c"}


def test_of_a_directory_only_what_has_its_images_open_is_shown(herd, tmp_path_factory, capsys):
    other = tmp_path_factory.mktemp("other")
    make_base(other / "alone", noise(1 << 16))
    with machine(herd, *disk("a")) as here, machine(other, *disk("alone")) as there:
        assert main(["ps", str(herd)]) == 0
        seen = capsys.readouterr().out
        assert main(["ps", str(other)]) == 0
        elsewhere = capsys.readouterr().out
    assert f"pid {here.pid}," in seen
    assert f"pid {there.pid}," not in seen
    assert f"pid {there.pid}," in elsewhere
    assert "1 process(es) have images open: nothing wrong" in seen


def test_what_is_asked_about_and_not_there_is_an_error(tmp_path, capsys):
    assert main(["ps", "--image", str(tmp_path / "nothing")]) == 1
    assert main(["ps", str(tmp_path / "nothing")]) == 1


def test_every_finding_is_explained():
    page = PAGE.read_text()
    assert all(f"| `{fault.value}` |" in page for fault in Fault)
