"""What commands print where it can't be printed as it is."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import cowherd
from cowherd import api

SOURCES = Path(cowherd.__file__).parents[1]
ASCII_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
CHARMAPS = {"ISO-8859-1": "en_US", "EUC-JP": "ja_JP", "GBK": "zh_CN"}
ODD = os.fsdecode(b"\xff") + "☃.qcow2"


def run(program: str, *words: object, **options) -> subprocess.CompletedProcess[bytes]:
    """Runs a program as a process of its own."""
    environment = os.environ | {"PYTHONPATH": os.fspath(SOURCES)} | options.pop("more", {})
    command = [sys.executable, "-m", f"cowherd.cli.{program}.main", *map(str, words)]
    return subprocess.run(command, env=environment, check=False, **{"capture_output": True, **options})


@pytest.fixture
def herd(tmp_path):
    """A base with two overlays, one of which has a name that no encoding holds."""
    api.create(tmp_path / "base ☃.qcow2", 1 << 20)
    for name in ("é", ODD):
        api.create(tmp_path / name, backing="base ☃.qcow2", backing_format="qcow2", break_dependents=True)
    return tmp_path


@pytest.fixture(params=["C", *CHARMAPS])
def locale(request, tmp_path_factory) -> dict[str, str]:
    """The environment of a locale that is not UTF-8."""
    if request.param == "C":
        return ASCII_LOCALE
    folder = tmp_path_factory.mktemp("locales")
    name = f"{CHARMAPS[request.param]}.{request.param}"
    if shutil.which("localedef"):
        command = ["localedef", "-c", "-i", CHARMAPS[request.param], "-f", request.param, folder / name]
        subprocess.run(command, capture_output=True, check=False)
    if not (folder / name).is_dir():
        pytest.skip("the sources of locales are not installed")
    return {"LOCPATH": os.fspath(folder), "LC_ALL": name}


def test_the_tree_is_drawn_in_whatever_the_locale_has(herd, locale):
    done = run("guard", "tree", herd, more=locale)
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode({"C": "ascii"}.get(locale["LC_ALL"], locale["LC_ALL"].partition(".")[2]))
    assert ("|- " in text) != ("├─ " in text)
    assert "\\u2603" in text or "☃" in text
    assert "\\xff" in text


def test_json_is_the_same_in_every_locale_and_gives_names_back_byte_by_byte(herd, locale):
    documents = [run("guard", "tree", "--json", herd, more=more) for more in ({}, locale, {"PYTHONIOENCODING": "utf-16"})]
    assert all(done.stdout.isascii() for done in documents[:2])
    assert documents[0].stdout == documents[1].stdout == documents[2].stdout.decode("utf-16").encode()
    names = {os.fsencode(image["path"]) for image in json.loads(documents[0].stdout)["images"]}
    assert names == {os.fsencode(path) for path in herd.iterdir()}


def test_a_backing_name_leads_to_the_same_file_in_every_locale(herd, locale):
    texts = [run("img", "info", "--backing-chain", "é", more=more, cwd=herd) for more in ({}, locale)]
    assert [done.returncode for done in texts] == [0, 0]
    assert texts[0].stdout == texts[1].stdout
    assert "image: base ☃.qcow2\n".encode() in texts[0].stdout


def test_an_encoding_that_was_chosen_for_the_output_counts(herd):
    assert "├─ ".encode("cp437") in run("guard", "tree", herd, more={"PYTHONIOENCODING": "cp437"}).stdout
    assert "├─ ".encode("koi8-u") in run("guard", "tree", herd, more=ASCII_LOCALE | {"PYTHONIOENCODING": "koi8-u:strict"}).stdout


def test_half_a_character_in_a_stored_name_leads_nowhere_and_is_no_traceback(tmp_path):
    stored = 'json:{"driver": "qcow2", "file": {"driver": "file", "filename": "\\ud800"}}'
    api.create(tmp_path / "o", 1 << 20, backing=stored, backing_format="qcow2", unsafe=True)
    for program, *command in (["img", "info"], ["img", "map"], ["img", "info", "--backing-chain"], ["guard", "verify"]):
        assert b"Traceback" not in run(program, *command, tmp_path / "o").stderr
    assert b"the JSON names no file" in run("img", "map", tmp_path / "o").stderr
    done = run("guard", "run", "--", "qemu-system-x86_64", "-blockdev", stored.removeprefix("json:"))
    assert b"halves of characters" in done.stderr


def test_a_pipe_that_does_not_block_is_waited_for(herd):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    taken = bytearray()

    def take() -> None:
        while data := os.read(reading, 100):
            taken.extend(data)

    reader = threading.Thread(target=take)
    for number in range(300):
        os.link(herd / "é", herd / f"{number:0200}")
    threading.Timer(0.5, reader.start).start()
    done = run("guard", "tree", "--json", herd, stdout=writing, stderr=subprocess.PIPE, capture_output=False)
    os.close(writing)
    while reader.ident is None:
        pass
    reader.join()
    os.close(reading)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(json.loads(taken)["images"]) == 3
    assert len(taken) > 1 << 16


def test_a_connection_whose_other_end_has_gone_is_no_failure(herd):
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        done = run("guard", "tree", herd, stdout=ours.fileno(), stderr=subprocess.PIPE, capture_output=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_stands_open_only_to_be_read_is_a_failure_to_write(herd):
    with open("/dev/null", "rb") as reading:
        done = run("guard", "tree", herd, stdout=reading, stderr=subprocess.PIPE, capture_output=False)
    assert done.returncode == 1
    assert b"Bad file descriptor; the command itself was carried out" in done.stderr


def test_input_that_cant_be_read_is_an_error_that_says_so(tmp_path):
    writing = os.open(tmp_path / "only", os.O_WRONLY | os.O_CREAT)
    done = run("guard", "inspect", "-", stdin=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"cowherd: Could not read 'standard input': Bad file descriptor\n")


def test_no_image_gets_the_number_of_a_stream_that_was_closed(tmp_path):
    """Else what is printed would be written into it."""
    (tmp_path / "disk").write_bytes(bytes(1 << 16))
    script = "import os, sys; from cowherd.cli.process import run; run(lambda: os.open(sys.argv[1], os.O_RDWR) < 3)"
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", script, tmp_path / "disk"]
    assert subprocess.run(command, env=os.environ | {"PYTHONPATH": os.fspath(SOURCES)}, check=False).returncode == 0
