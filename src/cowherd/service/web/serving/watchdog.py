"""Signs of life of several processes: the service lives as long as all of them do."""

from __future__ import annotations

import logging
import mmap
import time

from cowherd.service.web.serving.server import Life

_DOUBLE_BYTES = 8
_SIGNS = 4
"""How many signs a process gives in the time within which there must be one."""
_log = logging.getLogger("cowherd.service")


class Watchdog:
    """Passes on, as `life` says, that the processes at `count` places live: each has to show it within that interval.

    The moments lie in memory that the processes share, so that those that live see which one does not.
    """

    def __init__(self, count: int, life: Life):
        self._seen = memoryview(mmap.mmap(-1, count * _DOUBLE_BYTES)).cast("d")
        self._life = life

    def life_of(self, place: int) -> Life:
        """Returns how the process at a place, from 0 on, is to show that it lives."""
        if self._life.seconds is None:
            return self._life
        seconds = self._life.seconds
        return Life(seconds / _SIGNS, lambda: self._show(place, seconds))

    def _show(self, place: int, seconds: float) -> None:
        now = self._seen[place] = time.monotonic()
        silent = [number for number, seen in enumerate(self._seen) if now - seen > seconds]
        if place != min(set(range(len(self._seen))) - set(silent)):  # one of those that live speaks for all
            return
        if not silent:
            self._life.tell()
        for number in silent:
            if self._seen[number]:  # others are about to begin
                _log.error("worker %d of the service has shown no life for %.0f seconds", number, now - self._seen[number])
