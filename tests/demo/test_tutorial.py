"""The tutorial's commands do what the tutorial shows: each is run, in order, and its output compared."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tests.demo import installed

PAGE = "docs/tutorial.md"
READERS_FOLDER = "/srv/vms"


def replayed(session: str, folder: Path) -> str:
    """Returns a session with the output that its commands have in `folder`, which is shown as the reader's."""
    lines = []
    for command in re.findall(r"^\$ (.*)$", session, re.MULTILINE):
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=folder,
            env=os.environ | {"PATH": f"{installed.COMMANDS}:{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        lines.append(f"$ {command}\n{done.stdout.replace(str(folder), READERS_FOLDER)}")
    return "".join(lines)


def comparable(session: str) -> list[str]:
    """A session's lines, without what images take on the host, which differs between file systems, and the columns' widths."""
    session = re.sub(r"(?<=[KMG]iB)  +\d[\d.]* ([KMG]i)?B(?=  )", "  SIZE", session)
    return [" ".join(line.split()) for line in session.splitlines()]


def test_each_command_of_the_tutorial_prints_what_it_shows(tmp_path):
    installed.require()
    session = "".join(installed.blocks(PAGE, "console"))
    assert session.count("\n$ ") > 20
    assert comparable(replayed(session, tmp_path)) == comparable(session)
