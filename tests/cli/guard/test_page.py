from __future__ import annotations

import json
import os
from html.parser import HTMLParser

import pytest

from cowherd.cli.guard.main import main
from cowherd.herd.overlays.clone import clone
from tests.herd.qemu_herd import make_base, make_overlay, noise, write

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20
VOID = {"meta", "rect", "path", "circle"}


class Outline(HTMLParser):
    """What is in a page: its tags and attributes, its text; and it must be nested properly."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.words = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


@pytest.fixture
def herd(tmp_path, monkeypatch):
    make_base(tmp_path / "base.qcow2", noise(MIB))
    clone(tmp_path / "base.qcow2", tmp_path / "o.qcow2")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outline(herd, *words) -> Outline:
    assert main(["report", "-o", str(herd / "page.html"), *words]) == 0
    found = Outline()
    found.feed((herd / "page.html").read_text())
    found.close()
    assert found.open == []
    return found


def test_the_page_shows_images_and_findings_with_remedies(herd):
    text = outline(herd).text
    assert all(word in text for word in ("base.qcow2", "o.qcow2", "writable-base", "cowherd seal --level readonly", "Lineage"))
    assert "Drift" not in text


def test_the_page_loads_nothing_and_runs_nothing(herd):
    found = outline(herd)
    assert {tag for tag, _ in found.tags} & {"script", "link", "img", "iframe", "a"} == set()
    assert [value for _, attributes in found.tags for name, value in attributes.items() if name in ("src", "href")] == []
    assert "url(" not in (herd / "page.html").read_text()


def test_the_page_is_for_light_and_dark(herd):
    outline(herd)
    assert "prefers-color-scheme: dark" in (herd / "page.html").read_text()


def test_names_can_not_break_out_of_the_page(herd):
    make_overlay(herd / "<script>alert(1)</script>".replace("/", "\x1b"), "base.qcow2")
    found = outline(herd)
    assert "script" not in {tag for tag, _ in found.tags}
    assert "\x1b" not in (herd / "page.html").read_text()


def marks(found: Outline, kind: str) -> list[tuple[int, int]]:
    """Where strips are marked, from and to, as parts of 1024 of the disk, in the page's order."""
    rects = [attributes for tag, attributes in found.tags if tag == "rect" and attributes["class"] == kind]
    return [(int(rect["x"]), int(rect["x"]) + int(rect["width"])) for rect in rects]


def test_drift_is_a_picture_in_which_every_change_is_seen_where_it_is(herd):
    write(herd / "base.qcow2", "write -P 1 512k 64k", "write -P 1 576k 64k", "write -P 1 960k 64k")
    found = outline(herd)
    changed = [(512, 640), (960, 1024)]
    assert (marks(found, "hit"), marks(found, "kept")) == (changed * 2, [])
    assert "192 KiB of 1 MiB changed" in found.text


def test_the_smallest_change_of_a_large_disk_is_seen(herd, qemu_img):
    qemu_img("create", "-q", "-f", "qcow2", herd / "large.qcow2", "1T")
    clone(herd / "large.qcow2", herd / "l.qcow2")
    write(herd / "large.qcow2", "write -P 1 512G 512")
    assert marks(outline(herd), "hit") == [(512, 513)] * 2


def test_a_dependent_has_a_picture_of_what_it_sees_and_what_it_is_shielded_from(herd):
    write(herd / "o.qcow2", "write -P 7 512k 64k")
    write(herd / "base.qcow2", "write -P 1 512k 128k")
    found = outline(herd)
    assert (marks(found, "hit"), marks(found, "kept")) == ([(512, 640), (576, 640)], [(512, 576)])
    assert "torn" in found.text


def test_an_internal_snapshot_of_a_dependent_has_a_picture_of_its_own(herd, qemu_img):
    qemu_img("snapshot", "-c", "be<fore", herd / "o.qcow2")
    write(herd / "o.qcow2", "write -P 7 512k 128k")
    write(herd / "base.qcow2", "write -P 1 512k 128k")
    found = outline(herd)
    assert (marks(found, "hit"), marks(found, "kept")) == ([(512, 640), (512, 640)], [(512, 640)])
    assert "(snapshot be<fore)" in found.text


def test_a_dependent_that_can_not_be_read_says_why_in_its_place(herd):
    write(herd / "base.qcow2", "write -P 1 512k 128k")
    with open(herd / "o.qcow2", "r+b") as file:
        file.seek(40)
        file.write((1 << 60).to_bytes(8, "big"))
    assert "unreadable" in outline(herd).text


def test_the_lineage_is_drawn_as_one_line_from_each_base_to_its_overlays(herd):
    make_overlay(herd / "a.qcow2", "base.qcow2")
    make_overlay(herd / "a1.qcow2", "a.qcow2")
    found = outline(herd)
    dots = [int(attributes["cx"]) for tag, attributes in found.tags if tag == "circle"]
    lines = [attributes["d"] for tag, attributes in found.tags if tag == "path"]
    assert dots == [9, 27, 45, 27]
    assert lines == [
        "M9 16V32",
        "M9 0V10Q9 16 15 16H27M9 0V32M27 16V32",
        "M9 0V32M27 0V10Q27 16 33 16H45",
        "M9 0V10Q9 16 15 16H27",
    ]


def test_a_base_that_was_only_touched_is_said_to_be_as_sealed(herd):
    os.utime("base.qcow2")
    assert "only its file was touched" in outline(herd).text


def test_an_empty_herd_has_a_page_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "Nothing is wrong" in outline(tmp_path).text


def test_the_command_sums_up(herd, capsys):
    assert main(["report", "-o", "page.html", "--full", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {"page": str(herd / "page.html"), "images": 2, "findings": 1, "healthy": True, "drifts": 0}
    assert main(["report"]) == 2
