"""Commands that show a herd name the machines that run on it."""

from __future__ import annotations

import json

import pytest

from cowherd.cli.guard.look.page.document import page
from cowherd.cli.guard.main import main
from cowherd.herd.report.overview import overview
from tests.herd.qemu_herd import make_base, make_overlay, noise, write
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
    assert text.err.count("may not be looked into by this user") == 1
    assert document["hidden_machines"] >= 1


@pytest.fixture
def changed(herd, cowherd):
    """The herd after its sealed base was changed behind an overlay, `a`, that has written something."""
    write(herd / "a", "write -P 3 0 64k")
    cowherd("seal", "--bind", "base")
    (herd / "base").chmod(0o644)
    write(herd / "base", "write -P 5 128k 64k")
    return herd


def test_impact_says_which_overlays_that_are_hit_run(changed, cowherd, as_json):
    with machine(changed, "-name", "web", "-drive", "file=a1,if=virtio,file.locking=off") as process:
        code, out, err = cowherd("impact", "base")
        _, document = as_json("impact", "base")
    assert (code, err) == (4, "")
    (line,) = [line for line in out.splitlines() if "running:" in line]
    assert line.split()[:2] == ["torn", "a1"]
    assert line.endswith(f"shielded  running: web (pid {process.pid})")
    assert out.splitlines()[-1] == "1 of 3 overlays that are not intact runs at this moment"
    assert [[one["pid"] for one in hit["running"]] for hit in document["overlays"]] == [[], [process.pid], []]
    assert (document["running_overlays"], document["hidden_machines"]) == (1, 0)


def test_impact_names_the_machine_that_keeps_an_overlay_from_being_read(changed, cowherd):
    with machine(changed, *on("b")) as process:
        _, out, _ = cowherd("impact", "base", "--files")
    (line,) = [line for line in out.splitlines() if "running:" in line]
    assert line.split()[:2] == ["unreadable", "b"]
    assert line.endswith(f"running: web (pid {process.pid})")


def test_impact_says_that_no_machine_is_seen_and_of_intact_overlays_nothing(changed, cowherd):
    write(changed / "b", "write -P 3 128k 64k")
    with machine(changed, "-name", "web", "-drive", "file=b,if=virtio,file.locking=off"):
        _, out, _ = cowherd("impact", "base")
    assert "running:" not in out
    assert out.splitlines()[-1] == "no machine is seen on the 2 overlays that are not intact"


def test_the_page_shows_what_runs_in_the_lineage_and_at_the_drift(changed):
    with machine(changed, "-name", "<b>web", "-drive", "file=a1,if=virtio,file.locking=off") as process:
        assert main(["report", "-o", str(changed / "page.html")]) == 0
    text = (changed / "page.html").read_text()
    assert "1 of 3 overlays runs" in text
    assert text.count(f"running: &lt;b&gt;web (pid {process.pid})") == 2
    assert "<strong>1</strong>run now" in text
    assert "no-locks" in text
    assert "<b>web" not in text


def test_the_page_of_who_may_not_look_says_so():
    with public_directory() as public:
        make_base(public / "base", noise(1 << 20))
        with machine(public, *on("base")), as_nobody(public):
            assert main(["report", "-o", "/dev/null", str(public)]) == 0
            text = page(overview([public]))
    assert "may not be looked into by this user" in text
    assert "running:" not in text
