"""SIGHUP, which asks a process to read its settings again."""

from __future__ import annotations

import contextlib
import signal
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Hangups:
    """Notes each SIGHUP, also one that was blocked and waits. A context manager, for the main thread."""

    def __init__(self) -> None:
        self._heard: SimpleQueue[bool] = SimpleQueue()  # the only one in which a handler of signals may put something

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGHUP, lambda *_: self._heard.put(True))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGHUP,))
        return self

    def __exit__(self, *exc: object) -> None:
        signal.signal(signal.SIGHUP, self._before)

    @contextlib.contextmanager
    def calling(self, act: Callable[[], None]) -> Iterator[None]:
        """Calls `act` after each one, in a thread of its own, and waits for the last call to end. `act` raises nothing."""

        def follow() -> None:
            while self._heard.get():
                act()

        thread = threading.Thread(target=follow, name="hangups")
        thread.start()
        try:
            yield
        finally:
            self._heard.put(False)
            thread.join()
