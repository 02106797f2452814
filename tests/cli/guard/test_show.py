"""`show`, `status` and the family of an image in `tree`."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.herd.qemu_herd import make_base, make_overlay, noise, write
from tests.storage.hosts import reflink_file_system

pytestmark = pytest.mark.qemu("qemu-io")


@pytest.fixture
def herd(tmp_path, cowherd, monkeypatch):
    """A sealed base with `web`, on which `top` stands, and `db`; beside them a base of its own with an overlay."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COWHERD_STATE", str(tmp_path / "state"))
    make_base(tmp_path / "base", noise(1 << 20))
    cowherd("seal", "base")
    for name in ("web", "db"):
        cowherd("clone", "base", name)
    make_overlay(tmp_path / "top", "web")
    make_base(tmp_path / "plain", noise(1 << 16))
    make_overlay(tmp_path / "over", "plain")
    return tmp_path


def drift(image: Path) -> None:
    write(image, "write -P 3 0 64k")


def facts(out: str) -> dict[str, list[str]]:
    """The labels of `show` with their texts."""
    found: dict[str, list[str]] = {}
    label = ""
    for line in out.splitlines()[1:]:
        label = line[2:11].strip() or label
        found.setdefault(label, []).append(line[13:].strip())
    return found


def test_show_says_what_an_image_stands_on_and_what_stands_on_it(cowherd, herd):
    code, out, err = cowherd("show", "web")
    assert (code, err) == (0, "")
    assert out.startswith("web: ok\n")
    said = facts(out)
    assert said["holds"] == ["a disk of 1 MiB, qcow2; 192 KiB on disk"]
    assert said["stands on"] == ["base: seal recorded, ok"]
    assert said["carries"] == ["1 overlay", "top: ok"]
    assert said["bound to"][0].endswith("generation 1 of its seal")
    assert said.keys() & {"wrong", "seal", "runs"} == set()


def test_show_tells_the_seal_and_when_the_content_was_verified(cowherd, as_json, herd):
    cowherd("verify", "--full")
    code, out, _ = cowherd("show", "base")
    said = facts(out)
    assert code == 0
    assert said["seal"][0].startswith("recorded, made 20")
    assert said["verified"][0].endswith("Z, its whole content")
    assert said["carries"] == ["3 overlays", "db: ok", "web: ok", "top: ok"]
    _, document = as_json("show", "base")
    assert document["seal"]["path"] == str(herd / "base.seal")
    assert document["verified"] == as_json("log", "base")[1]["entries"][0]["time"]
    assert [one["path"] for one in document["overlays"]] == [str(herd / name) for name in ("db", "web", "top")]


def test_show_gives_the_remedy_for_an_image_and_for_what_it_stands_on(cowherd, as_json, herd):
    drift(herd / "base")
    code, out, _ = cowherd("show", "top")
    assert code == 4
    wrong = facts(out)["wrong"]
    assert wrong[0].startswith("touched: base: ")
    assert wrong[1] == f"cowherd verify --full --refresh {herd}/base --herd {herd}"
    assert as_json("show", "over")[1]["findings"] == []
    code, document = as_json("show", "plain")
    assert (code, document["healthy"], [one["kind"] for one in document["findings"]]) == (0, True, ["unsealed-base"])


def test_show_tells_a_missing_base_and_a_raw_image_that_nobody_names(cowherd, herd):
    (herd / "plain").unlink()
    code, out, _ = cowherd("show", "over")
    assert code == 4
    assert facts(out)["stands on"] == ["plain, which can't be followed"]
    (herd / "alone.raw").write_bytes(bytes(1 << 20))
    code, out, err = cowherd("show", "alone.raw")
    assert (code, err) == (0, "")
    assert out.startswith("alone.raw: unsealed\n  holds      a disk of 1 MiB, raw; ")


def test_show_takes_several_and_directories(cowherd, as_json, herd):
    code, document = as_json("show", "web", "gone", "plain")
    assert (code, ["error" in one for one in document["images"]]) == (1, [False, True, False])
    assert len(as_json("show", ".")[1]["images"]) == 6


def test_show_lists_only_some_of_very_many_overlays(cowherd, herd):
    for number in range(12):
        shutil.copy(herd / "db", herd / f"vm{number:02}")
    carried = facts(cowherd("show", "base")[1])["carries"]
    assert (carried[0], len(carried), carried[-1]) == ("15 overlays", 14, "and 3 more; 'cowherd tree base' shows all")


def test_show_tells_what_an_image_shares_with_its_shadow(cowherd, as_json, tmp_path):
    with reflink_file_system(tmp_path) as place:
        make_base(place / "base", noise(1 << 20))
        cowherd("seal", "--shadow", place / "base")
        out, shared = cowherd("show", place / "base")[1], as_json("show", place / "base")[1]["shared_size"]
    assert 1 << 20 <= shared <= 2 << 20
    assert " of it shared with other files" in facts(out)["holds"][0]


def test_show_escapes_names(cowherd, herd):
    os.rename("db", "d\x1b[31mb")
    _, out, _ = cowherd("show", "base", "d\x1b[31mb")
    assert "\x1b" not in out
    assert r"d\x1b[31mb: ok" in out


def test_what_runs_on_an_image_and_who_has_it_open_is_told(cowherd, as_json, herd):
    machine = herd / "qemu-like"
    machine.write_bytes(Path(shutil.which("sleep")).read_bytes())
    machine.chmod(0o755)
    with open("top", "rb") as disk, subprocess.Popen([machine, "60"], stdin=disk) as process:
        top, web = cowherd("show", "top")[1], cowherd("show", "web")[1]
        running = as_json("status")[1]
        process.kill()
    with open("db", "rb") as disk, subprocess.Popen(["sleep", "60"], stdin=disk) as reader:
        db = cowherd("show", "db")[1]
        reader.kill()
    assert facts(top)["runs"][0].startswith(f"qemu-like (pid {process.pid}, user ")
    assert facts(web)["carries"] == ["1 overlay, 1 of them running", f"top: ok, runs as qemu-like (pid {process.pid})"]
    assert {os.path.basename(base["path"]): base["running_overlays"] for base in running["bases"]} == {
        "base": 1,
        "plain": 0,
        "web": 1,
    }
    assert facts(db)["open in"][0].startswith(f"sleep (pid {reader.pid}, user ")


def test_the_domains_that_name_an_image_are_told(cowherd, herd, monkeypatch):
    records = herd / "root" / "etc" / "libvirt" / "qemu"
    records.mkdir(parents=True)
    disk = f"<disk type='file' device='disk'><source file='{herd}/db'/><target dev='vda'/></disk>"
    (records / "shop.xml").write_text(f"<domain type='kvm'><name>shop</name><uuid>1</uuid><devices>{disk}</devices></domain>")
    monkeypatch.setenv("COWHERD_LIBVIRT_ROOT", str(herd / "root"))
    assert facts(cowherd("show", "db")[1])["domain"] == ["shop names it as vda"]
    assert "domain" not in facts(cowherd("show", "web")[1])


def test_status_has_a_line_for_each_base_with_the_worst_first(cowherd, herd):
    code, out, err = cowherd("status")
    assert (code, err) == (0, "")
    assert [line.split()[:5] for line in out.splitlines()] == [
        ["status", "base", "seal", "overlays", "run"],
        ["unsealed", "plain", "-", "1", "0"],
        ["ok", "base", "recorded", "3", "0"],
        ["ok", "web", "-", "1", "0"],
        ["3", "bases:", "nothing", "wrong"],
    ]
    drift(herd / "base")
    (herd / "plain").unlink()
    code, out, _ = cowherd("status")
    assert code == 4
    assert [line.split()[:2] for line in out.splitlines()[:4]] == [
        ["status", "base"],
        ["missing-base", "plain"],
        ["touched", "base"],
        ["touched", "web"],
    ]
    assert out.endswith("\n3 bases: 3 wrong; 'cowherd doctor' says what to do\n")


def test_a_base_is_as_bad_as_the_worst_overlay_right_on_it(cowherd, as_json, herd):
    make_base(herd / "new", noise(1 << 20, 5))
    cowherd("seal", "new")
    subprocess.run(["qemu-img", "rebase", "-u", "-b", "new", "-F", "qcow2", "db"], check=True)
    code, document = as_json("status")
    worst = document["bases"][0]
    assert (code, document["wrong"], worst["path"], worst["status"], worst["wrong_overlays"]) == (
        4,
        1,
        str(herd / "new"),
        "binding-mismatch",
        1,
    )
    assert "new: 1 of the overlays right on it is not fine: " in cowherd("status")[1]


def test_what_is_wrong_with_a_base_is_said_once(cowherd, as_json, herd):
    def wrong() -> list[tuple[str, int]]:
        bases = as_json("status")[1]["bases"]
        return [(os.path.basename(one["path"]), one["wrong_overlays"]) for one in bases if one["status"] == "touched"]

    cowherd("seal", "web")
    drift(herd / "web")
    assert wrong() == [("web", 0)]
    drift(herd / "base")
    assert wrong() == [("base", 0), ("web", 0)]


def test_a_base_of_which_only_the_seal_is_left_is_gone(cowherd, as_json, herd):
    (herd / "alone").write_bytes(bytes(65536))
    cowherd("seal", "alone")
    (herd / "alone").unlink()
    code, document = as_json("status")
    assert (code, document["bases"][0]["path"], document["bases"][0]["there"]) == (4, str(herd / "alone"), False)


def test_status_tells_when_a_base_was_last_verified(cowherd, as_json, herd):
    cowherd("verify", "--full")
    verified = {os.path.basename(base["path"]): base["verified"] for base in as_json("status")[1]["bases"]}
    assert (verified["plain"], verified["base"]) == (None, as_json("log", "base")[1]["entries"][0]["time"])
    shutil.copy("base", "copy")
    os.replace("copy", "base")
    assert as_json("status")[1]["bases"][0]["verified"] is None


def test_status_says_where_there_are_no_bases(cowherd, herd):
    assert cowherd("status", "top")[0] == 0
    (herd / "deeper").mkdir()
    make_base(herd / "deeper" / "alone", noise(65536))
    assert cowherd("status", "deeper") == (0, "no bases\n", "")


def test_the_tree_of_an_image_is_its_family(cowherd, as_json, herd):
    def shown(*words: object) -> list[str]:
        return sorted(os.path.basename(image["path"]) for image in as_json("tree", *words)[1]["images"])

    assert shown("db") == shown("top") == shown("base") == ["base", "db", "top", "web"]
    assert shown("over") == ["over", "plain"]
    assert shown("over", "web") == shown(".") == ["base", "db", "over", "plain", "top", "web"]
    (herd / "deeper").mkdir()
    make_base(herd / "deeper" / "alone", noise(65536))
    assert shown("over", "deeper") == ["alone", "over", "plain"]
    assert shown("over", "--herd", "deeper") == ["over", "plain"]
    (herd / "alone.raw").write_bytes(bytes(65536))
    assert shown("alone.raw") == ["alone.raw"]


def test_the_tree_of_an_image_finds_overlays_in_other_directories_under_the_herd(cowherd, as_json, herd):
    (herd / "a" / "b" / "c").mkdir(parents=True)
    make_overlay(herd / "a" / "b" / "c" / "far", herd / "plain")
    images = as_json("tree", "over", "--herd", "a")[1]["images"]
    assert [os.path.relpath(image["path"], herd) for image in images] == ["plain", "a/b/c/far", "over"]
