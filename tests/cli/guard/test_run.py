from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cowherd.herd.overlays.clone import clone
from cowherd.herd.seals.seal import seal
from tests.herd.qemu_herd import make_base, noise
from tests.qmp import connected, open_files

pytestmark = pytest.mark.qemu("qemu-system-x86_64")

QEMU = "qemu-system-x86_64"


@pytest.fixture
def overlay(tmp_path, monkeypatch):
    seal(make_base(tmp_path / "base", noise(1 << 20)))
    clone(tmp_path / "base", tmp_path / "o", seal_base=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "o"


def drift(overlay: Path) -> None:
    with (overlay.parent / "base").open("r+b") as file:
        file.seek(-10, os.SEEK_END)
        file.write(b"drift")


def test_a_machine_on_an_intact_chain_becomes_this_process(overlay, tmp_path):
    words = ["-M", "pc", "-accel", "tcg", "-m", "16", "-display", "none", "-nodefaults", "-S"]
    words += ["-qmp", f"unix:{tmp_path}/qmp,server,nowait", "-drive", f"file={overlay},if=virtio"]
    words += ["-drive", "driver=null-co,if=virtio"]
    (tmp_path / "base").chmod(0o600)
    command = [sys.executable, "-m", "cowherd.cli.guard.main", "run", "--", QEMU, *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment) as process:
        try:
            talk = connected(tmp_path / "qmp", process)
            assert set(open_files(talk)) == {str(overlay), str(tmp_path / "base")}
            assert Path(f"/proc/{process.pid}/exe").resolve().name == QEMU
            ignored = next(line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "SigIgn" in line)
            assert int(ignored.split()[1], 16) & (1 << (signal.SIGXFSZ - 1)) == 0
            talk.close()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
            assert process.stderr
            said = process.stderr.read().decode()
            assert "cowherd: not checked: -drive driver=null-co,if=virtio: the driver null-co" in said
            assert f"let through: {tmp_path}/base: its attributes were changed" in said
        finally:
            process.kill()


def test_after_drift_nothing_starts_and_the_reason_is_said(cowherd, overlay):
    drift(overlay)
    code, out, err = cowherd("run", "--", QEMU, "-hda", overlay)
    assert (code, out) == (4, "")
    assert f"refusing to start {QEMU}: -hda {overlay}: touched: {overlay.parent / 'base'}: it was written to" in err
    assert "cowherd verify --full --refresh" in err


def test_a_sealed_base_is_not_given_to_a_guest_that_writes(cowherd, overlay):
    code, _, err = cowherd("run", "--", QEMU, "-hda", overlay.parent / "base")
    assert code == 3
    assert "1 overlay stands on it, o; 'cowherd clone' makes an overlay to write to" in err


def test_a_dry_run_says_what_it_found_and_starts_nothing(cowherd, overlay):
    code, out, _ = cowherd("run", "--dry-run", "--", QEMU, "o", "-drive", "file=nbd://host/disk")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["ok", "not-verified"]
    assert "nbd://host/disk" in out


def test_the_answer_is_a_document(as_json, overlay, cowherd):
    drift(overlay)
    code, out, _ = cowherd("run", "--json", "--", QEMU, "-hda", "o")
    (drive,) = json.loads(out)["drives"]
    assert code == 4
    assert (drive["where"], drive["path"], drive["status"], drive["refused"]) == ("-hda o", str(overlay), "touched", True)
    assert drive["image"] == str(overlay.parent / "base")


def test_json_among_the_machine_s_own_words_is_none_of_ours(cowherd, overlay):
    code, out, _ = cowherd("run", "--dry-run", "--", QEMU, "-name", "--json", "o")
    assert code == 0
    assert out.startswith("ok")


@pytest.mark.parametrize("words", [[], ["--"], ["--", "ls"]])
def test_a_command_without_qemu_is_wrong_usage(cowherd, words):
    assert cowherd("run", *words)[0] == 2


def test_a_command_line_that_can_t_be_understood_starts_nothing(cowherd):
    code, _, err = cowherd("run", "--", QEMU, "-blockdev", "{")
    assert code == 1
    assert "not valid JSON" in err


def test_a_qemu_that_is_not_there_is_an_error(cowherd, overlay):
    code, _, err = cowherd("run", "--", "/nowhere/qemu-system-x86_64", "-hda", "o")
    assert code == 1
    assert "No such file or directory" in err


@pytest.mark.parametrize(
    "words",
    [
        ["-drive", "if=none,id=d", "-set", "drive.d.file=o"],
        ["-drive", "if=none,driver=raw,file.driver=qcow2,file.file.filename=o"],
        ["-blockdev", "driver=copy-on-read,node-name=c,file.driver=qcow2,file.file.driver=file,file.file.filename=o"],
        ["-drive", "if=none,driver=quorum,vote-threshold=1,children.0.driver=qcow2,children.0.file.filename=o"],
    ],
)
def test_no_way_to_name_an_image_leads_past_the_check(cowherd, overlay, words):
    assert cowherd("run", "--dry-run", "--", QEMU, *words)[0] == 0
    drift(overlay)
    assert cowherd("run", "--dry-run", "--", QEMU, *words)[0] == 4


def test_memory_and_logs_are_not_written_into_a_sealed_base(cowherd, overlay):
    for words in (
        ["-object", "memory-backend-file,id=m,size=1M,mem-path=base,share=on"],
        ["-serial", "file:base"],
        ["-D", "base"],
    ):
        code, _, err = cowherd("run", "--dry-run", "--", QEMU, *words)
        assert (code, "base-sealed" in err) == (3, True)


def test_what_is_not_understood_starts_nothing_and_says_how_it_would_start(cowherd, overlay):
    words = ["--", QEMU, "-new-option", "x", "-hda", "o"]
    code, out, err = cowherd("run", *words)
    assert (code, out) == (1, "")
    assert "-new-option x: not-understood: the option is not known, and may name a file" in err
    assert "--allow-unknown" in err
    code, out, _ = cowherd("run", "--dry-run", "--allow-unknown", *words)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["not-understood", "ok"]


def test_names_start_where_a_program_before_qemu_goes(cowherd, overlay):
    drift(overlay)
    assert cowherd("run", "--dry-run", "--", "env", "-C", overlay.parent, QEMU, "-hda", "o")[0] == 4
    assert cowherd("run", "--dry-run", "--", "env", "-C", "/", QEMU, "-hda", "o")[0] == 0
    assert cowherd("run", "--dry-run", "--", "chroot", "/", QEMU, "-hda", "none")[0] == 1
