"""Waiting for what comes about by itself, on a slow machine too."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

DEADLINE_SECONDS = 30


def wait_until(holds: Callable[[], object], seconds: float = DEADLINE_SECONDS) -> None:
    """Returns as soon as `holds` is true. Fails the test if that takes longer than so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"it did not come about within {seconds} seconds"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended does not, though its parent has not waited for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # the latter if it goes while this reads
        return False
