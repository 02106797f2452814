"""`cowherd report` as it is typed: what it refuses, and a page that is served while the herd changes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from cowherd.herd.overlays.clone import clone
from tests.herd.qemu_herd import make_base, noise, write

MIB = 1 << 20


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "report -o FILE DIR, or cowherd report DIR --serve"),
        (["-o", "page.html", "--serve"], "report -o FILE DIR, or cowherd report DIR --serve"),
        (["-o", "page.html", "--from", "old"], "--files"),
    ],
)
def test_what_makes_no_sense_is_wrong_usage(words, said, cowherd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, complaint = cowherd("report", *words)
    assert code == 2
    assert said in complaint
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("0.0.0.0:0", "--serve '0.0.0.0:0': others could read it, names of images and all; --serve-anywhere allows that"),
        ("/srv/vms", "it has to be a port"),
        ("host.example:80", "'host.example' is no address"),
    ],
)
def test_an_address_that_others_reach_or_that_is_none_is_refused(where, said, cowherd, tmp_path):
    code, _, complaint = cowherd("report", tmp_path, "--serve", where)
    assert (code, said in complaint) == (2, True), complaint


def test_a_directory_that_is_not_there_is_not_served(cowherd, tmp_path):
    code, _, complaint = cowherd("report", tmp_path / "nowhere", "--serve", "0")
    assert (code, "there is no such directory" in complaint) == (1, True)


@contextlib.contextmanager
def served(directory, *words):
    """Serves the page of a herd; yields its address, and what the program prints, once SIGINT has ended it well."""
    command = [sys.executable, "-m", "cowherd.cli.guard.main", "report", directory, "--serve", "0", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stderr.readline()
            assert "the page is at http://127.0.0.1:" in line, line + process.stderr.read()
            printed = []
            yield line.split()[5], printed
            process.send_signal(signal.SIGINT)
            printed.append(process.communicate(timeout=20)[0])
            assert process.returncode == 0
        finally:
            process.kill()


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode()


def until(url: str, words: str) -> str:
    """Looks at the page as its script does, until it has some words."""
    deadline = time.monotonic() + 60
    while words not in (text := read(url)):
        assert time.monotonic() < deadline, text[-4000:]
        time.sleep(0.5)
        json.loads(read(f"{url}version"))
    return text


@pytest.fixture
def herd(tmp_path, qemu_img, qemu_io):
    make_base(tmp_path / "base.qcow2", noise(MIB))
    clone(tmp_path / "base.qcow2", tmp_path / "o.qcow2")
    return tmp_path


def test_a_served_page_shows_a_new_overlay_and_a_change_of_a_base(herd):
    with served(herd, "--json") as (url, printed):
        assert "Wrong" not in read(url)
        clone(herd / "base.qcow2", herd / "new.qcow2")
        until(url, "new.qcow2")
        write(herd / "base.qcow2", "write -P 1 512k 64k")
        text = until(url, "where base.qcow2 changed")
    assert "64 KiB of 1 MiB changed" in text
    assert json.loads(printed[0]) == {"schema": 1, "page": url, "directories": [str(herd)]}


def test_looking_at_a_served_page_changes_nothing_in_the_herd(herd):
    write(herd / "base.qcow2", "write -P 1 512k 64k")
    before = {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in herd.iterdir()}
    with served(herd) as (url, _):
        read(url)
    assert {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in herd.iterdir()} == before
