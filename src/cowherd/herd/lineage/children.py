"""Processes that this one forks to work beside it: what signals, and its own end, mean to them.

They share a terminal with it, so what is typed there reaches them too; whoever reads what is printed shall hear of it once, from
the process that was called. And they must not outlive it, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def forking() -> Iterator[None]:
    """Keeps signals that ask for an end waiting while processes are forked, which call `begin_child`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin_child(lifeline: Lifeline) -> None:
    """Called by a forked process before all else. `lifeline` is its parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for who waits for this process
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
    lifeline.hold()


class Lifeline:
    """A pipe that nobody writes to: it is at its end when the process that made it has ended.

    Pipes for data don't tell that: children that were forked later hold both ends of them.
    """

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe2(os.O_CLOEXEC)

    def hold(self) -> None:
        """Ends this process, a child of the one that made the pipe, when that one has ended."""
        os.close(self._writing)
        threading.Thread(target=self._end_with_parent, daemon=True).start()

    def let_go(self) -> None:
        """Called by the process that made it, when the children have ended."""
        os.close(self._reading)
        os.close(self._writing)

    def _end_with_parent(self) -> None:
        os.read(self._reading, 1)
        os._exit(1)
