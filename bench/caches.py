"""Puts the page cache into the state that a place is named after, before each run; this is not timed."""

from __future__ import annotations

import subprocess

from bench.inputs import Workspace, warm
from bench.mounts import DROP_CACHES
from bench.places import EXT4_COLD, EXT4_WARM

_PAGES_AND_INODES = "3\n"


def settle(space: Workspace) -> None:
    """Empties the page cache, or fills it, where the place asks for that."""
    if space.place == EXT4_COLD:
        subprocess.run(["sync", "--file-system", str(space.own)], check=True)  # what is not written yet would stay
        DROP_CACHES.write_text(_PAGES_AND_INODES)
    if space.place == EXT4_WARM:
        read_inputs(space)


def read_inputs(space: Workspace) -> None:
    """Reads all that the job starts from, so that all runs find it in the page cache alike."""
    for path in (space.own, *sorted(space.used)):
        warm(path)
