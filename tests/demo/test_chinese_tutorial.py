"""The commands of the tutorial in Chinese do what it shows, with real machines."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from pathlib import Path

import pytest

from tests import locales
from tests.demo import installed
from tests.demo.test_live_page import machines_end

pytestmark = pytest.mark.qemu("qemu-system-x86_64", "qemu-io")

PAGE = "docs/zh/tutorial.md"
READERS_FOLDER = "/srv/vms"
VARYING = (
    (r"\bpid \d+", "pid N"),
    (r"since [-\d]+ [:\d]+", "since T"),
    (r"(disk0|virtio0) \(#block\d+\)", r"\1 (#blockN)"),
    (r"about [\d.]+ s", "about N s"),
    (r"(?<=[KMG]iB)  +\d[\d.]* ([KMG]i)?B(?=  )", "  SIZE"),  # what an image takes on the host differs between file systems
)


def replayed(session: str, folder: Path, **environment: str) -> str:
    """Returns a session with the output that its commands have in `folder`, which is shown as the reader's."""
    lines = []
    environment = os.environ | {"PATH": f"{installed.COMMANDS}:{os.environ['PATH']}"} | environment
    for command in re.findall(r"^\$ (.*)$", session, re.MULTILINE):
        with (folder.parent / "output").open("w+") as output:  # no pipe: a machine in the background would keep it open
            words = ["sh", "-c", command]
            subprocess.run(
                words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
            )
            output.seek(0)
            lines.append(f"$ {command}\n{output.read().replace(str(folder), READERS_FOLDER)}")
    return "".join(lines)


def comparable(session: str) -> list[str]:
    """A session's lines without what differs from run to run, and the columns' widths."""
    for pattern, word in VARYING:
        session = re.sub(pattern, word, session)
    session = session.replace(f"user {pwd.getpwuid(os.geteuid()).pw_name},", "user root,")
    return [" ".join(line.split()) for line in session.splitlines()]


@pytest.fixture
def chinese(tmp_path) -> dict[str, str]:
    """The environment of a reader whose language is Chinese."""
    folder = tmp_path / "locales"
    folder.mkdir()
    return {"LOCPATH": locales.make_chinese(folder), "LC_ALL": "zh_CN.UTF-8", "LANG": "zh_CN.UTF-8"}


@pytest.mark.slow
def test_each_command_prints_what_the_page_shows_to_a_chinese_reader(chinese, tmp_path):
    installed.require()
    folder = tmp_path / "vms"
    folder.mkdir()
    session = "".join(installed.blocks(PAGE, "console"))
    assert session.count("\n$ ") > 40
    with machines_end(folder):
        assert comparable(replayed(session, folder, **chinese)) == comparable(session)
