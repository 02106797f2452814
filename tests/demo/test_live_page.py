"""What the page about running machines shows is what happens: its commands are run in order, with real machines."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.demo.installed import ROOT, blocks

pytestmark = pytest.mark.qemu("qemu-system-x86_64")

PAGE = "docs/live.md"
COWHERD = f"""#!/bin/sh
PYTHONPATH={ROOT}/src exec {sys.executable} -c 'from cowherd.cli.programs import guard; guard()' "$@"
"""


@contextlib.contextmanager
def machines_end(folder: Path) -> Iterator[None]:
    """Ends the machines that the block has started in the folder, if it did not do so itself."""
    try:
        yield
    finally:
        for file in folder.glob("*.pid"):
            # The page's last command asks them to end: each removes its file and is gone while this looks.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                os.kill(int(file.read_text()), signal.SIGKILL)


def replayed(session: str, folder: Path, programs: Path) -> str:
    """Returns a session with the output that its commands have in the folder."""
    lines = []
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
    for command in re.findall(r"^\$ (.*)$", session, re.MULTILINE):
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        lines.append(f"$ {command}\n{done.stdout}")
    return "".join(lines)


def comparable(session: str) -> str:
    """A session without what differs with each run: numbers of processes and descriptors, the user, and the time."""
    for pattern, word in ((r"\bpid \d+", "pid N"), (r"/proc/\d+/fd/\d+", "/proc/N/fd/N"), (r"since [-\d]+ [:\d]+", "since T")):
        session = re.sub(pattern, word, session)
    return session.replace(f"user {pwd.getpwuid(os.geteuid()).pw_name},", "user root,")


def test_each_command_of_the_page_prints_what_it_shows(tmp_path):
    programs, folder = tmp_path / "programs", tmp_path / "vms"
    programs.mkdir()
    folder.mkdir()
    (programs / "cowherd").write_text(COWHERD)
    (programs / "cowherd").chmod(0o755)
    session = "".join(blocks(PAGE, "console"))
    assert session.count("$ cowherd ps") == 2
    with machines_end(folder):
        assert comparable(replayed(session, folder, programs)) == comparable(session)
