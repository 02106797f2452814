"""`make demo` tells its story to the end, checks what it says, and its page shows what it prints."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.demo import installed

KEY_LINES = (
    "ok quiet.qcow2: the guest wrote SIZE, and the overlay reads as the guest's disk",
    "ok the tree shows three overlays under the base",
    "$ cowherd-img commit quiet.qcow2",
    "ok not a byte of the base's file has changed",
    "No errors were found on the image.",
    "drifted base.qcow2 blocks with N bytes differ from what was sealed",
    "torn quiet.qcow2 SIZE exposed, SIZE shielded",
    "synchronised fresh.qcow2 SIZE exposed, 0 B shielded",
    "intact busy.qcow2 0 B exposed, SIZE shielded",
    "ok busy.qcow2, called intact, is: clean, and every byte as before",
    "ok fresh.qcow2, called synchronised, is: clean, and every byte as in the upgraded base",
    "ok quiet.qcow2, called torn, is: e2fsck needs N lines to say what is wrong",
    "ok N of the N files that its guest left are gone or broken",
    "base.qcow2: as sealed again",
    "ok quiet.qcow2: e2fsck finds it clean, and every byte is as its guest left it",
    "base.qcow2: its overlays hold what it lost; it is sealed as it is now",
    "ok base.qcow2: every byte is as the upgrade left it",
)


def run(*command, folder, **environment) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        env=os.environ | {"TMPDIR": str(folder)} | environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def masked(text: str) -> list[str]:
    """The lines of a story without what differs from run to run and from machine to machine; a 0 stays."""
    text = re.sub(r"\S*/cowherd-demo-\w+", "DIR", text)
    text = re.sub(r"\bcontent [0-9a-f]{16}\b", "content N", text)
    text = re.sub(r"(?<![\w.])(0x[0-9a-f]+|\d+(\.\d+)*)\b", lambda found: "0" if found[0] == "0" else "N", text)
    text = re.sub(r"\bN ([KMG]i)?B\b", "SIZE", text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def comparable(excerpt: str) -> list[str]:
    """The lines of the page's excerpt that every machine's story has: not what e2fsck complains of first, nor QEMU without
    QEMU."""
    other = r"\.\.\.$|e2fsck |Entry '|Fix\? |Pass N:" + ("" if shutil.which("qemu-img") else r"|\$ qemu-img ")
    return [line for line in masked(excerpt) if not re.match(other, line)]


def missing_in_order(wanted: list[str], lines: list[str]) -> list[str]:
    """The first of `wanted` that does not come, in its turn, in `lines`."""
    rest = iter(lines)
    return [line for line in wanted if line not in rest][:1]


@pytest.mark.slow
def test_the_demo_ends_well_and_its_page_shows_what_it_prints(tmp_path):
    installed.require()
    done = run(installed.ROOT / "demo/run.py", folder=tmp_path, NO_COLOR="", PATH="/usr/bin:/bin")
    assert (done.returncode, done.stderr) == (0, "")
    told = masked(done.stdout)
    assert missing_in_order(list(KEY_LINES), told) == []
    [shown] = [block for block in installed.blocks("docs/demo.md", "console") if "cowherd impact" in block]
    excerpt = comparable(shown)
    assert len(excerpt) > 30
    assert missing_in_order(excerpt, told) == []
    assert "\x1b" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def with_demo(code: str) -> str:
    """A program that runs the demo after some code has changed it."""
    return f"import sys; sys.path.insert(0, {str(installed.ROOT / 'demo')!r}); import run, story\n{code}\nsys.exit(run.main())"


def test_a_claim_that_does_not_hold_ends_the_demo_with_exit_code_1(tmp_path):
    code = "story.Story.tell = lambda self: self.stage.claim(False, 'the moon is a cheese')"
    done = run("-c", with_demo(code), folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "\nThe story broke off: this does not hold: the moon is a cheese\n"
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_ends_with_another_exit_code_than_told_ends_the_demo(tmp_path):
    code = "story.Story.tell = lambda self: self.stage.run('false', 4)"
    done = run("-c", with_demo(code), folder=tmp_path)
    assert done.returncode == 1
    assert "'false' ended with exit code 1, expected 4" in done.stderr


def test_a_machine_without_e2fsprogs_gets_a_message(tmp_path):
    done = run("-c", with_demo("run.PROGRAMS = ('mke2fs-that-nobody-has',)"), folder=tmp_path)
    assert done.returncode == 1
    assert "mke2fs-that-nobody-has not installed; on Debian and Ubuntu: sudo apt-get install e2fsprogs" in done.stderr


def test_the_guests_files_are_kept_if_asked(tmp_path):
    code = "story.Story.tell = lambda self: None; sys.argv = ['run.py', '--keep']"
    done = run("-c", with_demo(code), folder=tmp_path)
    assert done.returncode == 0
    [kept] = tmp_path.iterdir()
    assert (kept / "herd").is_dir()
    assert f"The disks are in {kept}" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("mke2fs", path="/usr/sbin:/sbin:/usr/bin") is None, reason="e2fsprogs is not installed")
def test_the_demo_does_not_believe_a_wrong_verdict(tmp_path):
    """A guard that called every overlay intact would be found out by e2fsck and by the bytes."""
    installed.require()
    code = """
told = story.json.loads
def lying(text):
    found = told(text)
    return found | {"overlays": [hit | {"verdict": "intact"} for hit in found["overlays"]]}
story.json.loads = lying
story.Story.refuse = story.Story.notice = lambda self: None
"""
    done = run("-c", with_demo(code), folder=tmp_path)
    assert done.returncode == 1
    assert "does not hold: fresh.qcow2, called synchronised, is: clean, and every byte as in the upgraded base" in done.stderr
