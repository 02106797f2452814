"""What is named and not there is an error of every command: a timer that looks at nothing must not say that all is fine."""

from __future__ import annotations

import pytest

from cowherd.cli.guard.main import COMMANDS
from tests.herd.qemu_herd import make_base, make_overlay, noise

pytestmark = pytest.mark.qemu("qemu-img")

GONE = {
    "tree": ["tree", "gone"],
    "status": ["status", "gone"],
    "show": ["show", "gone"],
    "log": ["log", "gone"],
    "clone": ["clone", "gone", "new"],
    "seal": ["seal", "gone"],
    "unseal": ["unseal", "gone"],
    "verify": ["verify", "gone"],
    "impact": ["impact", "gone"],
    "inspect": ["inspect", "gone"],
    "repair": ["repair", "gone"],
    "merge": ["merge", "gone"],
    "recover": ["recover", "gone"],
    "doctor": ["doctor", "gone"],
    "bind": ["bind", "gone"],
    "move": ["move", "--repair", "gone"],
    "rename": ["rename", "gone", "new"],
    "delete": ["delete", "gone"],
    "trash": ["trash", "list", "gone"],
    "trash empty": ["trash", "empty", "gone"],
    "gc": ["gc", "gone"],
    "gc --clean": ["gc", "--clean", "gone"],
    "watch": ["watch", "--once", "gone"],
    "ps": ["ps", "gone"],
    "ps --image": ["ps", "--image", "gone"],
    "report": ["report", "gone", "--output", "page.html"],
    "promote": ["promote", "gone", "new"],
    "flatten": ["flatten", "gone"],
    "retarget": ["retarget", "gone", "--onto", "base"],
    "retarget onto": ["retarget", "overlay", "--onto", "gone"],
    "herd": ["herd", "add", "gone"],
    "serve": ["serve", "--check-config", "--config", "gone"],
    "push": ["push", "gone", "--to", "http://127.0.0.1:1"],
    "pull": ["pull", "image", "--to", "unix:/gone"],
    "images": ["images", "--to", "unix:/gone"],
}
WITH_HERD = {
    "tree of one": ["tree", "overlay"],
    "status": ["status"],
    "show": ["show", "overlay"],
    "log": ["log"],
    "clone": ["clone", "base", "new"],
    "seal": ["seal", "base"],
    "unseal": ["unseal", "base"],
    "verify": ["verify"],
    "verify of one": ["verify", "overlay"],
    "impact": ["impact", "base"],
    "repair": ["repair", "base"],
    "merge": ["merge", "overlay"],
    "bind": ["bind", "overlay"],
    "rename": ["rename", "overlay", "new"],
    "delete": ["delete", "overlay"],
    "promote": ["promote", "overlay", "new"],
    "flatten": ["flatten", "overlay"],
    "retarget": ["retarget", "overlay", "--onto", "base"],
    "run": ["run", "--dry-run"],
}


@pytest.fixture
def herd(tmp_path, monkeypatch):
    make_base(tmp_path / "base", noise(65536))
    make_overlay(tmp_path / "overlay", tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_that_names_files_is_tried():
    assert {name.split()[0] for name in GONE} | {"run", "hook"} == set(COMMANDS)


@pytest.mark.parametrize("words", GONE.values(), ids=GONE)
def test_a_name_under_which_nothing_is_ends_with_1(cowherd, herd, words):
    code, _, err = cowherd(*words)
    assert code == 1
    assert "gone" in err


@pytest.mark.parametrize("words", WITH_HERD.values(), ids=WITH_HERD)
def test_so_does_a_herd_that_is_not_there(cowherd, herd, words):
    rest = ["--", "qemu-system-x86_64", "-hda", "overlay"] if words[0] == "run" else []
    code, _, err = cowherd(*words, "--herd", "gone", *rest)
    assert code == 1
    assert "gone" in err


def test_what_others_stand_on_must_be_sealed_where_that_is_asked_for(cowherd, herd):
    assert cowherd("verify")[0] == 0
    assert cowherd("verify", "--require-sealed")[0] == 4
    assert cowherd("seal", "base")[0] == 0
    assert cowherd("verify", "--require-sealed")[0] == 0
