"""Commands that show a herd name the machines that run on it."""

from __future__ import annotations

import json

import pytest

from cowherd.cli.guard.main import main
from tests.herd.qemu_herd import make_base, make_overlay, noise
from tests.live.machines import machine
from tests.storage.hosts import as_nobody, public_directory

pytestmark = pytest.mark.qemu("qemu-system-x86_64")


@pytest.fixture
def herd(tmp_path, monkeypatch):
    """base <- a <- a1, base <- b"""
    make_base(tmp_path / "base", noise(1 << 20))
    for name, base in (("a", "base"), ("a1", "a"), ("b", "base")):
        make_overlay(tmp_path / name, base)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def on(image, name="web"):
    return ("-name", name, "-drive", f"file={image},if=virtio")


def test_tree_names_machines_behind_their_images_and_counts_them_at_the_bases(herd, cowherd):
    with machine(herd, *on("a1")) as process:
        code, out, err = cowherd("tree")
    assert (code, err) == (0, "")
    said = [line.partition("  unsealed")[2].strip() for line in out.splitlines()[1:]]
    assert said == ["1 of 3 overlays runs", "1 of 1 overlay runs", f"running: web (pid {process.pid})", ""]


def test_tree_as_a_document_has_each_machine_at_its_image(herd, as_json):
    with machine(herd, *on("a1")) as process:
        _, document = as_json("tree", herd)
    images = {image["path"].rpartition("/")[2]: image for image in document["images"]}
    assert {name: [one["pid"] for one in image["running"]] for name, image in images.items()} == {
        "base": [],
        "a": [],
        "a1": [process.pid],
        "b": [],
    }
    assert [images[name]["running_overlays"] for name in ("base", "a", "a1", "b")] == [1, 1, 0, 0]
    assert document["hidden_machines"] == 0
    assert images["a1"]["running"][0].keys() == {
        "pid", "command", "user", "unit", "machine", "domain", "since", "writing",
    }  # fmt: skip


def test_a_name_of_a_machine_is_escaped(herd, cowherd):
    with machine(herd, *on("b", "\x1b[31mred")):
        _, out, _ = cowherd("tree")
    assert "running: \\x1b[31mred (pid" in out
    assert "\x1b" not in out


def test_who_may_not_look_is_told_so_in_one_line(capsys):
    with public_directory() as public:
        make_base(public / "base", noise(1 << 20))
        make_overlay(public / "b", "base")
        with machine(public, *on("b")), as_nobody(public):
            assert main(["tree"]) == 0
            text = capsys.readouterr()
            assert main(["tree", "--json"]) == 0
            document = json.loads(capsys.readouterr().out)
    assert [line.split()[-1] for line in text.out.splitlines()] == ["status", "unsealed", "unsealed"]
    assert text.err.count("machine(s) may not be looked into by this user") == 1
    assert document["hidden_machines"] >= 1
