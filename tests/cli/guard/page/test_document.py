from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
from html.parser import HTMLParser

import pytest

from cowherd.cli.guard.look.page import document
from cowherd.cli.guard.main import main
from cowherd.herd.overlays.clone import clone
from cowherd.herd.report.overview import overview
from tests.herd.qemu_herd import make_base, make_overlay, noise, write
from tests.storage.hosts import run

pytestmark = pytest.mark.qemu("qemu-io")

MIB = 1 << 20
VOID = {"meta", "input", "br"}


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
        if self.open[-1:] not in (["script"], ["style"]):
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
    assert main(["report", "-o", str(herd / "page.html"), *map(str, words)]) == 0
    found = Outline()
    found.feed((herd / "page.html").read_text())
    found.close()
    assert found.open == []
    return found


def test_the_page_shows_images_and_findings_with_remedies(herd):
    text = outline(herd).text
    assert all(word in text for word in ("base.qcow2", "o.qcow2", "writable-base", "cowherd seal --level readonly", "Noted"))
    assert "changed" not in text


def test_the_page_loads_nothing(herd):
    found = outline(herd)
    assert {tag for tag, _ in found.tags} & {"link", "img", "iframe", "object", "base"} == set()
    assert [value for _, attributes in found.tags for name, value in attributes.items() if name == "src"] == []
    assert {attributes["href"][0] for tag, attributes in found.tags if tag == "a"} == {"#"}
    assert "url(" not in (herd / "page.html").read_text()


def test_the_browser_runs_no_script_and_takes_no_style_but_those_of_the_page(herd):
    found, page = outline(herd), (herd / "page.html").read_text()
    policy = next(attributes["content"] for tag, attributes in found.tags if attributes.get("http-equiv"))
    for tag, name in (("script", "script-src"), ("style", "style-src")):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name} 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "connect-src" not in policy
    assert not [name for _, attributes in found.tags for name in attributes if name == "style" or name.startswith("on")]


def test_every_link_leads_to_a_family_of_the_page(herd):
    found = outline(herd)
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    links = {attributes["href"][1:] for tag, attributes in found.tags if tag == "a"}
    assert len(ids) == len(set(ids))
    assert links
    assert links <= set(ids)


def test_the_page_is_for_light_and_dark(herd):
    outline(herd)
    assert "prefers-color-scheme: dark" in (herd / "page.html").read_text()


def test_names_can_not_break_out_of_the_page(herd):
    make_overlay(herd / "<script>alert(1)</script>".replace("/", "\x1b"), "base.qcow2")
    make_base(herd / "\" onclick='1'><b>.qcow2", noise(65536))
    make_overlay(herd / "on-it.qcow2", "\" onclick='1'><b>.qcow2")
    found = outline(herd)
    assert sum(tag == "script" for tag, _ in found.tags) == 1
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert "\x1b" not in (herd / "page.html").read_text()


def marks(found: Outline, kind: str) -> list[tuple[int, int]]:
    """Where strips are marked, from and to, as parts of 1024 of the disk, in the page's order."""
    paths = [
        attributes["d"]
        for tag, attributes in found.tags
        if tag == "path" and attributes["class"] == kind and "h8v8" not in attributes["d"]
    ]
    runs = [re.findall(r"M(\d+) \d+h(\d+)v\d+H\d+z", path) for path in paths]
    return [place for run in runs for place in dict.fromkeys((int(first), int(first) + int(width)) for first, width in run)]


def test_drift_is_a_picture_in_which_every_change_is_seen_where_it_is(herd):
    write(herd / "base.qcow2", "write -P 1 512k 64k", "write -P 1 576k 64k", "write -P 1 960k 64k")
    found = outline(herd)
    changed = [(512, 640), (960, 1024)]
    assert (marks(found, "changed"), marks(found, "warn"), marks(found, "shielded")) == (changed, changed, [])
    assert "192 KiB of 1 MiB" in found.text
    assert "0x80000 to 0xa0000 (128 KiB)" in found.text


def test_a_changed_base_has_one_verdict(herd):
    write(herd / "base.qcow2", "write -P 1 512k 64k")
    text = outline(herd).text
    assert "drifted" in text
    assert "cowherd repair" in text
    assert "touched" not in text
    assert "verify" not in text


def test_the_smallest_change_of_a_large_disk_is_seen(herd, qemu_img):
    qemu_img("create", "-q", "-f", "qcow2", herd / "large.qcow2", "1T")
    clone(herd / "large.qcow2", herd / "l.qcow2")
    write(herd / "large.qcow2", "write -P 1 512G 512")
    found = outline(herd)
    assert marks(found, "changed") == marks(found, "warn") == [(512, 513)]
    assert "0 128 GiB 256 GiB 384 GiB 512 GiB 640 GiB 768 GiB 896 GiB 1 TiB" in found.text


def test_a_dependent_has_a_picture_of_what_it_sees_and_what_it_is_shielded_from(herd):
    write(herd / "o.qcow2", "write -P 7 512k 64k")
    write(herd / "base.qcow2", "write -P 1 512k 128k")
    found = outline(herd)
    assert (marks(found, "bad"), marks(found, "shielded")) == ([(576, 640)], [(512, 576)])
    assert "64 KiB exposed, 64 KiB shielded" in found.text
    assert "torn" in found.text


def test_dependents_that_see_the_same_are_one_strip(herd):
    for name in "abc":
        clone(herd / "base.qcow2", herd / f"{name}.qcow2")
    write(herd / "c.qcow2", "write -P 7 512k 64k")
    write(herd / "base.qcow2", "write -P 1 512k 128k")
    found = outline(herd)
    labels = [attributes["aria-label"] for tag, attributes in found.tags if tag == "svg" and attributes.get("class") == "strip"]
    assert labels == [f"where {name}" for name in ("base.qcow2 changed", "c.qcow2 sees the change", "a.qcow2 sees the change")]
    assert "3 overlays" in found.text


def test_torn_and_synchronised_differ_in_shape_and_not_only_in_colour(herd):
    clone(herd / "base.qcow2", herd / "torn.qcow2")
    write(herd / "torn.qcow2", "write -P 7 0 64k")
    write(herd / "base.qcow2", "write -P 1 512k 128k")
    drawn = {attributes["class"]: attributes["d"] for tag, attributes in outline(herd).tags if tag == "path"}
    assert drawn["bad"] == "M512 0h128v10H512z"
    assert drawn["warn"] == "M512 0h128v4H512zM512 6h128v4H512z"


def test_an_internal_snapshot_of_a_dependent_has_a_picture_of_its_own(herd, qemu_img):
    qemu_img("snapshot", "-c", "be<fore", herd / "o.qcow2")
    write(herd / "o.qcow2", "write -P 7 512k 128k")
    write(herd / "base.qcow2", "write -P 1 512k 128k")
    found = outline(herd)
    assert (marks(found, "warn"), marks(found, "shielded")) == ([(512, 640)], [(512, 640)])
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
    outline(herd)
    rows = re.findall(r"<tr class=\w+><td>(.*?)</td>", (herd / "page.html").read_text())
    drawn = [re.sub(r"<i class=(.)></i>|<b></b>", lambda part: part[1] or "*", row) for row in rows]
    assert drawn == ["d*base.qcow2", "td*a.qcow2", "le*a1.qcow2", "e*o.qcow2"]


@pytest.mark.skipif(shutil.which("mke2fs", path="/usr/sbin:/sbin:/usr/bin") is None, reason="e2fsprogs is not installed")
def test_files_that_a_change_hits_are_named_where_they_were_looked_for(tmp_path, qemu_img):
    folder, raw, herd = tmp_path / "files", tmp_path / "raw", tmp_path / "herd"
    folder.mkdir(), herd.mkdir()
    (folder / "he<llo").write_bytes(b"\xaa" * MIB)
    run("truncate", "-s", 48 * MIB, raw)
    run("mke2fs", "-q", "-t", "ext4", "-d", folder, raw)
    qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, herd / "base.qcow2")
    shutil.copyfile(herd / "base.qcow2", tmp_path / "old.qcow2")
    clone(herd / "base.qcow2", herd / "o.qcow2")
    write(herd / "base.qcow2", f"write -P 1 {raw.read_bytes().index(bytes([0xAA]) * 65536) + 65536} 512")
    assert "he<llo" not in outline(herd, herd).text
    assert "changed in the whole disk:  /he<llo" in outline(herd, herd, "--files", "--from", tmp_path / "old.qcow2").text


def test_a_base_that_was_only_touched_is_said_to_be_as_sealed(herd):
    os.utime("base.qcow2")
    assert "only its file was touched" in outline(herd).text


def test_an_empty_herd_has_a_page_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "Nothing is wrong" in outline(tmp_path).text


def test_the_command_sums_up(herd, capsys):
    assert main(["report", "-o", "page.html", "--full", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {"schema": 1, "page": str(herd / "page.html"), "images": 2, "findings": 1, "healthy": True, "drifts": 0}
    assert main(["report"]) == 2


def test_a_page_has_room_for_so_many_pictures_and_tells_the_rest_in_figures(herd, monkeypatch):
    monkeypatch.setattr(document, "_ROOM_FOR_STRIPS", 600)
    for number in range(4):
        clone(herd / "base.qcow2", herd / f"{number}.qcow2")
        write(herd / f"{number}.qcow2", f"write -P 7 {512 + 64 * number}k 64k")
    write(herd / "base.qcow2", "write -P 1 512k 512k")
    found = outline(herd)
    strips = [attributes for tag, attributes in found.tags if tag == "svg" and attributes.get("class") == "strip"]
    assert len(strips) == 1 + 2
    assert found.text.count("no room for a picture") == 3
    assert found.text.count("448 KiB exposed, 64 KiB shielded") == 4


def test_only_a_live_page_may_ask_its_server(herd):
    live = document.page(overview([herd]), 7)
    assert "connect-src 'self'" in live
    assert "<body data-version=7>" in live
    assert "data-version=" not in document.page(overview([herd])).replace("dataset", "")
