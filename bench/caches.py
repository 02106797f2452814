"""Puts the page cache into the state that a place is named after, before each run; this is not timed."""

from __future__ import annotations

from bench.inputs import Workspace, warm
from bench.mounts import mount_again
from bench.places import EXT4_COLD, EXT4_WARM


def settle(space: Workspace) -> None:
    """Empties the page cache, or fills it, where the place asks for that."""
    if space.place == EXT4_COLD:
        mount_again(space.own)
    if space.place == EXT4_WARM:
        read_inputs(space)


def read_inputs(space: Workspace) -> None:
    """Reads all that the job starts from, so that all runs find it in the page cache alike."""
    for path in (space.own, *sorted(space.used)):
        warm(path)
