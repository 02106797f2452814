"""Waiting for what comes about by itself, on a slow machine too."""

from __future__ import annotations

import time
from collections.abc import Callable

DEADLINE_SECONDS = 30


def wait_until(holds: Callable[[], object], seconds: float = DEADLINE_SECONDS) -> None:
    """Returns as soon as `holds` is true. Fails the test if that takes longer than so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"it did not come about within {seconds} seconds"
        time.sleep(0.01)
