"""Limits how fast the watch reads: all its threads share a token bucket, and urgent reading goes first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

BURST_SECONDS = 0.25


class Stopped(Exception):
    """The watch ends, so the reading that runs is abandoned."""


class TokenBucket:
    """A bucket of bytes that may be read. `rate` per second come in (None: no limit); it holds those of a quarter of a second.

    To spend more than it holds makes a debt, which the caller has to wait off. `clock` gives seconds.
    """

    def __init__(self, rate: int | None, clock: Callable[[], float] = time.monotonic):
        self.rate, self._clock = rate, clock
        self._tokens, self._filled = self._room, clock()

    @property
    def _room(self) -> float:
        return (self.rate or 0) * BURST_SECONDS

    def spend(self, amount: int) -> float:
        """Takes out `amount` bytes; returns the seconds to wait before the next reading."""
        if self.rate is None:
            return 0.0
        now = self._clock()
        self._tokens = min(self._room, self._tokens + (now - self._filled) * self.rate) - amount
        self._filled = now
        return max(0.0, -self._tokens / self.rate)


class Pace:
    """Shares a token bucket among threads that read, and can stop them all. Other reading waits for urgent reading."""

    def __init__(self, bucket: TokenBucket):
        self._bucket, self._lock = bucket, threading.Lock()
        self._stopping, self._calm = threading.Event(), threading.Event()
        self._calm.set()
        self.bytes_read = 0

    def stop(self) -> None:
        """Makes every `progress` raise `Stopped` from now on, at once."""
        self._stopping.set()
        self._calm.set()

    def hurry(self, urgent: bool) -> None:
        """Notes whether urgent reading goes on; other reading waits meanwhile."""
        (self._calm.clear if urgent else self._calm.set)()

    def progress(self, *, urgent: bool) -> Callable[[int, int], None]:
        """Returns a callback for the reading of one image, to be called with (bytes read, bytes in all) after each piece.

        It waits as long as the rate demands, and raises `Stopped` after `stop`.
        """
        before = 0

        def wait(done: int, _total: int) -> None:
            nonlocal before
            if not urgent:
                self._calm.wait()
            with self._lock:
                delay = self._bucket.spend(done - before)
                self.bytes_read += done - before
            before = done
            if self._stopping.wait(delay):
                raise Stopped

        return wait
