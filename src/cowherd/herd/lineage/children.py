"""Child processes: how they treat signals and the end of their parent.

They share a terminal with their parent, so Ctrl-C reaches them too; but only the parent may report it, so that the user reads it
once. And they must not outlive their parent, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def forking() -> Iterator[None]:
    """Holds back signals that ask for an end while the block forks processes; each of these calls `begin_child`.

    Otherwise a signal could meet a child that still has its parent's handlers.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin_child(lifeline: Lifeline) -> None:
    """Sets up a forked process, which calls this before anything else. `lifeline` is its parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
    lifeline.hold()


class Lifeline:
    """A pipe that nobody writes to: children read its end when the process that made it has ended.

    Pipes for data don't show that: children that were forked later hold both of their ends.
    """

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe2(os.O_CLOEXEC)

    def hold(self) -> None:
        """Called by a child: ends it as soon as the process that made the pipe has ended."""
        os.close(self._writing)
        threading.Thread(target=self._end_with_parent, daemon=True).start()

    def let_go(self) -> None:
        """Closes the pipe. The process that made it calls this when its children have ended."""
        os.close(self._reading)
        os.close(self._writing)

    def _end_with_parent(self) -> None:
        os.read(self._reading, 1)
        os._exit(1)
