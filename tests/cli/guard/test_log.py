"""What cowherd did to an image: logged where commands end, found again after a rename, and never in the way of the work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cowherd import notes
from cowherd.cli.img.main import main as cowherd_img
from cowherd.cli.logged import log_command
from cowherd.cli.process import Stopped
from cowherd.herd.log import file as log_file
from cowherd.herd.log.entry import from_line
from tests.herd.qemu_herd import make_base, make_overlay, noise, write

pytestmark = pytest.mark.qemu("qemu-io")


MANY = """
from cowherd.cli.logged import log_command
for _ in range(50):
    with log_command("cowherd", "seal", ["base"]):
        pass
"""
WAITING = """
import time
from cowherd.cli.logged import log_command
from cowherd.cli.process import run
def main():
    with log_command("cowherd", "seal", ["base"]):
        print("up", flush=True)
        time.sleep(60)
run(main)
"""


@pytest.fixture
def state(tmp_path, monkeypatch):
    """The directory of the host's state; nothing is there yet."""
    monkeypatch.setenv("COWHERD_STATE", str(tmp_path / "state" / "cowherd"))
    monkeypatch.setattr(notes, "_said", set())
    return tmp_path / "state" / "cowherd"


@pytest.fixture
def herd(tmp_path, state, monkeypatch):
    """A sealed base and an overlay, in the current directory; what made them is not in the log."""
    (tmp_path / "herd").mkdir()
    monkeypatch.chdir(tmp_path / "herd")
    make_base(Path("base").absolute(), noise(1 << 20))
    make_overlay(Path("web").absolute(), "base")
    return tmp_path / "herd"


@pytest.fixture
def logged(as_json):
    """Returns the entries about images, newest first, as (command, exit code, names)."""

    def entries(*words: object) -> list[tuple[str, int, list[str]]]:
        code, document = as_json("log", *words)
        assert code == 0
        return [(one["command"], one["exit_code"], names(one)) for one in document["entries"]]

    return entries


def names(entry: dict) -> list[str]:
    return list(dict.fromkeys(os.path.basename(image["path"]) for image in entry["images"]))


def test_every_change_is_logged_with_all_images_that_it_is_about(cowherd, herd, logged):
    assert cowherd("log") == (0, "nothing is in the log\n", "")
    cowherd("seal", ".")
    cowherd("clone", "base", "db")
    cowherd("move", "db", "web2", "--dry-run")
    write(herd / "web", "write -P 7 0 64k")
    cowherd("merge", "web")
    cowherd("tree")
    cowherd("delete", "db")
    cowherd("trash", "list")
    cowherd("trash", "restore", "db")
    cowherd("unseal", "--force", "base")
    assert logged() == [
        ("unseal", 0, ["base"]),
        ("trash restore", 0, ["db"]),
        ("delete", 0, ["db"]),
        ("merge", 0, ["web", "base", "db"]),
        ("clone", 0, ["base", "db"]),
        ("seal", 0, ["base"]),
    ]
    assert logged("-n", "1", "db") == [("trash restore", 0, ["db"])]


def test_an_image_is_found_under_its_former_names(cowherd, herd, logged):
    cowherd("seal", "base")
    cowherd("bind", "web")
    cowherd("rename", "web", "shop")
    (herd / "elsewhere").mkdir()
    cowherd("move", "shop", "elsewhere")
    os.rename("elsewhere/shop", "by-hand")
    assert [command for command, _, _ in logged("by-hand")] == ["move", "rename", "bind"]
    assert [command for command, _, _ in logged("web")] == ["move", "rename", "bind"]  # gone, and known from the log
    assert logged("base") == [("seal", 0, ["base"])]
    assert len(logged(herd)) == 4


def test_the_number_of_a_file_that_was_made_anew_is_not_that_of_the_former_one(cowherd, herd, logged, state):
    cowherd("seal", "base")
    cowherd("clone", "base", "db")
    file = state / "log" / "changes.jsonl"
    number = os.stat("db").st_ino
    other = file.read_text().splitlines()[0].replace(f'"inode": {os.stat("base").st_ino}', f'"inode": {number}')
    file.write_text(other.replace("/base", "/other") + "\n" + file.read_text())
    assert [command for command, _, _ in logged("db")] == ["clone"]


def test_refusals_and_failures_are_logged_with_their_reason(cowherd, herd, as_json):
    cowherd("seal", "base")
    assert cowherd_img(["cowherd-img", "commit", "web"]) == 3
    assert cowherd("delete", "base")[0] == 3
    _, out, _ = cowherd("log", "base", "web")
    assert [line.split()[2:] for line in out.splitlines() if not line.startswith("    ")] == [
        ["delete", "refused", "base"],
        ["cowherd-img", "commit", "refused", "web"],
        ["seal", "done", "base"],
    ]
    assert "refusing to delete base: it is sealed" in out
    _, document = as_json("log", "web")
    entry = document["entries"][0]
    assert (entry["program"], entry["exit_code"], entry["problem"][:26]) == ("cowherd-img", 3, "refusing to commit into ba")


def test_what_is_interrupted_is_logged_as_such(herd, cowherd, monkeypatch):
    with pytest.raises(Stopped), log_command("cowherd", "merge", ["web"]):
        raise Stopped
    assert "merge  interrupted  web" in cowherd("log")[1]


def test_cowherd_img_logs_what_changes_an_image_that_is_there(herd, logged, capsys):
    assert cowherd_img(["cowherd-img", "resize", "-q", "web", "2M"]) == 0
    assert cowherd_img(["cowherd-img", "commit", "-q", "web"]) == 0
    assert cowherd_img(["cowherd-img", "create", "-q", "-f", "qcow2", "new", "1M"]) == 0
    assert cowherd_img(["cowherd-img", "convert", "-O", "qcow2", "base", "new"]) == 0
    assert cowherd_img(["cowherd-img", "info", "base"]) == 0
    capsys.readouterr()
    assert logged() == [("convert", 0, ["new"]), ("commit", 0, ["web", "base"]), ("resize", 0, ["web"])]


def test_who_did_it_is_logged(herd, cowherd, as_json, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "alice\x1b[31m")
    cowherd("seal", "base")
    _, out, _ = cowherd("log")
    assert r"(sudo by alice\x1b[31m)  seal" in out
    entry = as_json("log")[1]["entries"][0]
    assert (entry["sudo_user"], entry["images"][0]["inode"]) == ("alice\x1b[31m", os.stat("base").st_ino)


def test_a_whole_reading_is_logged_for_what_it_found_right(cowherd, herd, logged):
    cowherd("seal", "base")
    make_base(herd / "other", noise(1 << 16))
    cowherd("seal", "other")
    os.chmod("other", 0o644)
    write(herd / "other", "write -P 3 0 64k")
    cowherd("verify")
    assert cowherd("verify", "--full")[0] == 4
    assert logged()[0] == ("verify", 4, ["base"])


def test_for_one_image_only_lines_about_it_are_read(cowherd, herd, as_json, monkeypatch):
    for name in ("one", "two"):
        make_base(herd / name, noise(1 << 16))
        cowherd("seal", name)
        cowherd("verify", "--full", name)
    read = []
    monkeypatch.setattr(log_file, "from_line", lambda line: read.append(line) or from_line(line))
    for name in ("one", "two"):
        read.clear()
        verified = as_json("show", name)[1]["verified"]
        assert {os.path.basename(image.path) for line in read for image in from_line(line).images} == {name}
        assert verified == as_json("log", name)[1]["entries"][0]["time"]


def test_nothing_is_logged_where_there_is_no_state(cowherd, herd, monkeypatch, tmp_path):
    monkeypatch.setenv("COWHERD_STATE", "off")
    assert cowherd("seal", "base")[0] == 0
    assert cowherd("log") == (0, "nothing is in the log\n", "")


@pytest.mark.parametrize("spoil", ["file", "link", "others", "linked log", "second name"])
def test_a_log_that_cannot_be_written_is_a_note_and_no_failure(cowherd, herd, state, tmp_path, spoil):
    victim = tmp_path / "victim"
    victim.write_text("as before")
    (state / "log").parent.mkdir(parents=True)
    if spoil == "file":
        (state / "log").write_text("")
    elif spoil == "link":
        (tmp_path / "of-others").mkdir()
        (state / "log").symlink_to(tmp_path / "of-others")
    else:
        (state / "log").mkdir(mode=0o700)
        os.chmod(state / "log", 0o777 if spoil == "others" else 0o700)
        if spoil == "linked log":
            (state / "log" / "changes.jsonl").symlink_to(victim)
        elif spoil == "second name":
            (state / "log" / "changes.jsonl").hardlink_to(victim)
    code, out, err = cowherd("seal", "base", "web")
    assert code == 0
    assert "base: sealed" in out
    assert err.count("cowherd: what was done is not in the log: Could not use ") == 1
    assert victim.read_text() == "as before"
    assert not list(tmp_path.glob("of-others/*"))
    code, out, err = cowherd("log")
    assert (code, out) == (0, "nothing is in the log\n")
    assert str(state / "log") in err


def test_hostile_lines_are_left_out_and_what_is_shown_is_escaped(cowherd, herd, state):
    cowherd("seal", "base")
    file = state / "log" / "changes.jsonl"
    good = json.loads(file.read_text())
    bad = [
        b"\xff\xfe",
        b"[" * 100_000,
        b"{}",
        json.dumps(good | {"images": "web"}).encode(),
        json.dumps(good | {"exit_code": 10**30}).encode(),
        json.dumps(good | {"images": good["images"] * 1000}).encode(),
        json.dumps(good)[:-9].encode(),
    ]
    shown = good | {
        "command": "\x1b[2Jseal",
        "user": "r\noot",
        "problem": "a\rb",
        "images": [good["images"][0] | {"path": "/\x1b"}],
    }
    file.write_bytes(b"\n".join([*bad, json.dumps(shown).encode(), b""]))
    code, out, err = cowherd("log")
    assert (code, err, out.count("\n")) == (0, "", 2)
    assert r"r\x0aoot  \x1b[2Jseal  done  /\x1b" in out
    assert r"a\x0db" in out


def test_the_log_is_bounded_and_the_part_before_is_still_read(cowherd, herd, state, monkeypatch, logged):
    monkeypatch.setattr(log_file, "_MOST_BYTES", 2000)
    for _ in range(30):
        cowherd("seal", "base")
    sizes = {path.name: path.stat().st_size for path in (state / "log").iterdir()}
    assert sizes.keys() == {"changes.jsonl", "changes.1.jsonl"}
    assert all(size < 2600 for size in sizes.values())
    assert 8 < len(logged()) < 20
    assert {path.stat().st_mode & 0o777 for path in (state / "log").iterdir()} == {0o600}


def test_commands_at_work_at_once_lose_no_line(herd, logged, monkeypatch):
    seals = [sys.executable, "-c", MANY]
    running = [subprocess.Popen(seals) for _ in range(4)]
    assert [process.wait() for process in running] == [0] * 4
    assert len(logged()) == 200


def test_a_command_that_a_signal_ends_is_logged(herd, cowherd, state):
    with subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM
    assert "seal  interrupted  base" in cowherd("log")[1]
