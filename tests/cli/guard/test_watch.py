"""`cowherd watch` as it is typed: once, for systemd, and with what makes no sense."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

import cowherd
from cowherd.herd.watch import once
from cowherd.herd.watch.pace import TokenBucket
from tests.herd.qemu_herd import BLOCK, make_base, noise, write


@pytest.fixture
def herd(tmp_path, qemu_img, qemu_io, monkeypatch):
    """A sealed base, `base.qcow2` in the current directory, under one overlay."""
    monkeypatch.chdir(tmp_path)
    base = make_base(tmp_path / "base.qcow2", noise(8 * BLOCK))
    cowherd.seal(base)
    cowherd.clone(base, tmp_path / "web.qcow2")
    return tmp_path


def test_once_is_content_with_what_is_as_sealed(herd, cowherd):
    assert cowherd("watch", "--once", herd)[:2] == (0, "fine  base.qcow2  its content was read and is as sealed\n")


def test_once_finds_drift_and_ends_with_4(herd, as_json):
    write(herd / "base.qcow2", "write -P 1 64k 64k")
    code, found = as_json("watch", "--once", herd)
    (base,) = found["bases"]
    assert (code, found["fine"], base["outcome"], base["blocks"], base["changed_bytes"]) == (4, False, "drifted", 1, BLOCK)
    assert [(os.path.basename(one["path"]), one["verdict"]) for one in base["overlays"]] == [("web.qcow2", "synchronised")]


def test_once_looks_at_content_also_where_the_file_seems_untouched(herd, cowherd):
    base = herd / "base.qcow2"
    before = base.stat()
    with base.open("r+b") as stream:
        stream.seek(-100, os.SEEK_END)
        stream.write(noise(100, seed=8))
    os.utime(base, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert cowherd("watch", "--once", herd)[0] == 4


def test_once_reports_as_the_watch_does(herd, cowherd, tmp_path):
    write(herd / "base.qcow2", "write -P 1 64k 64k")
    hook = tmp_path / "hook"
    hook.write_text(f'#!/bin/sh\necho "$COWHERD_EVENT $COWHERD_BASE" > {tmp_path}/told\n')
    hook.chmod(0o755)
    cowherd("watch", "--once", herd, "--exec", hook, "--events", tmp_path / "events")
    assert (tmp_path / "told").read_text() == f"drifted {herd}/base.qcow2\n"
    assert '"event": "drifted"' in (tmp_path / "events").read_text()


def test_once_says_what_it_found_once_and_to_the_journal_with_its_level_too(herd, cowherd, tmp_path, monkeypatch):
    write(herd / "base.qcow2", "write -P 1 64k 64k")
    assert cowherd("watch", "--once", herd)[2] == ""
    with (tmp_path / "journal").open("w+") as journal:
        info = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{info.st_dev}:{info.st_ino}")
        monkeypatch.setattr("sys.stderr", journal)
        assert cowherd("watch", "--once", herd)[0] == 4
        journal.seek(0)
        assert journal.read().startswith("<3>drifted: ")


def test_once_without_seals_is_fine(tmp_path, cowherd):
    assert cowherd("watch", "--once", tmp_path)[:2] == (0, "no sealed images\n")


@pytest.mark.parametrize(("typed", "meant"), [("64M", 64 << 20), ("0", None)])
def test_once_reads_no_faster_than_it_is_told(herd, cowherd, monkeypatch, typed, meant):
    made = []
    monkeypatch.setattr(once, "TokenBucket", lambda rate: made.append(rate) or TokenBucket(rate))
    assert cowherd("watch", "--once", "--rate", typed, herd)[0] == 0
    assert made == [meant]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["/nowhere"], "there is no such directory"),
        (["--settle", "soon", "."], "is no time"),
        (["--every", "0", "."], "is no time"),
        (["--rate", "fast", "."], "is no size"),
        (["--metrics", "0.0.0.0:9000", "."], "others could read it"),
        (["--once", "--metrics", "9000", "."], "needs a watch that goes on"),
        (["--exec", "'", "."], "No closing quotation"),
        (["--events", "/nowhere/events", "."], "Could not write events to"),
        (["--install-units", "--unit-dir", "/nowhere", "."], "there is no such directory"),
        (["--install-units", "--unit-dir", "."], "needs the directories to watch"),
        (["--install-units", "--unit-dir", ".", "it's"], "can't be written into a unit"),
    ],
)
def test_what_makes_no_sense_is_refused(words, said, cowherd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = cowherd("watch", *words)
    assert code in (1, 2)
    assert said in err
    assert out == ""


def test_json_and_events_do_not_share_standard_output(as_json):
    code, document = as_json("watch", "--events", "-")
    assert (code, document["error"]["kind"]) == (2, "UsageError")


def test_the_units_name_the_directories_and_this_program(tmp_path, cowherd):
    code, out, _ = cowherd("watch", "--install-units", "--unit-dir", tmp_path, "/srv/vms", '/srv/b c%"x')
    assert code == 0
    assert "systemctl enable --now cowherd-watch.service" in out
    unit = (tmp_path / "cowherd-watch.service").read_text()
    assert 'Environment="COWHERD_DIRECTORIES=/srv/vms \'/srv/b c%%\\"x\'"' in unit
    assert re.search(r'^ExecStart="/.*" watch \$COWHERD_WATCH_OPTIONS \$COWHERD_DIRECTORIES$', unit, re.MULTILINE)


def test_systemd_understands_the_units(tmp_path, cowherd):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    cowherd("watch", "--install-units", "--unit-dir", tmp_path, "/srv/vms")
    cowherd("serve", "--install-units", "--unit-dir", tmp_path)
    units = sorted(tmp_path.iterdir())
    assert len(units) == 5
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("unit", ["cowherd-watch.service", "cowherd-verify.service", "cowherd-serve.service"])
def test_the_services_may_do_little(tmp_path, cowherd, unit):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    cowherd("watch", "--install-units", "--unit-dir", tmp_path, "/srv/vms")
    cowherd("serve", "--install-units", "--unit-dir", tmp_path)
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=40", tmp_path / unit]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("systemd-analyze is older than version 250")
    assert done.returncode == 0, done.stdout
