"""How fast the watch reads: a token bucket that all its reading shares, in which what is urgent goes first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

BURST_SECONDS = 0.25


class Stopped(Exception):
    """The watch ends, and what was being read is given up."""


class TokenBucket:
    """Bytes that may be read: `rate` a second come in (None: no limit), a quarter of a second's worth can wait there.

    Spending more than there is goes into debt, which has to be waited off. `clock` gives seconds.
    """

    def __init__(self, rate: int | None, clock: Callable[[], float] = time.monotonic):
        self.rate, self._clock = rate, clock
        self._tokens, self._filled = self._room, clock()

    @property
    def _room(self) -> float:
        return (self.rate or 0) * BURST_SECONDS

    def spend(self, amount: int) -> float:
        """Takes `amount` bytes out and returns for how many seconds nothing more may be read."""
        if self.rate is None:
            return 0.0
        now = self._clock()
        self._tokens = min(self._room, self._tokens + (now - self._filled) * self.rate) - amount
        self._filled = now
        return max(0.0, -self._tokens / self.rate)


class Pace:
    """Shares a token bucket among threads that read, and ends them all. While something urgent is read, the rest waits."""

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
        """Says whether something urgent is being read."""
        (self._calm.clear if urgent else self._calm.set)()

    def progress(self, *, urgent: bool) -> Callable[[int, int], None]:
        """Returns what is called with (bytes read, in all) of one image after each piece, and waits as long as it has to."""
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
