"""Several processes that answer on one listening socket, and the one that minds them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from cowherd.errors import CowherdError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import NoReturn

_ENDING = (signal.SIGTERM, signal.SIGINT)
_PR_SET_PDEATHSIG = 1
_PAUSE_SECONDS = 1.0
"""Between the death of a process and its successor, so that one that can't start does not take all of the host's time."""


class WorkerFailed(CowherdError):
    """A process ended before it answered. What was wrong stands on standard error."""

    def __str__(self) -> str:
        return "a process of the service ended before it answered"


class Workers:
    """Processes that each run `work`, which is given a function to call once it answers. They are replaced when they die."""

    def __init__(self, count: int, work: Callable[[Callable[[], None]], None]):
        self._count, self._work = count, work
        self._running: set[int] = set()
        self._ending = False

    def run(self, answers: Callable[[], None]) -> None:
        """Starts the processes, calls `answers` once all of them answer, and returns when SIGTERM or SIGINT has ended them all.

        Raises `WorkerFailed` if one ends before it answers; the others are ended then.
        """
        with self._handling_signals():
            if self._start_all():
                answers()
            elif not self._ending:
                self._end()
                self._mind()
                raise WorkerFailed
            self._mind()

    def _start_all(self) -> bool:
        """Starts the processes. Returns whether all of them came to answer."""
        reader, writer = os.pipe()
        for _ in range(self._count):
            self._start(writer)
        os.close(writer)
        ready = 0
        while ready < self._count and (said := os.read(reader, self._count)):
            ready += len(said)
        os.close(reader)
        return ready == self._count

    @contextlib.contextmanager
    def _handling_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._end) for number in _ENDING}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._reload)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        self._ending = True
        for pid in self._running:
            os.kill(pid, signal.SIGTERM)

    def _reload(self, _number: int, _frame: FrameType | None) -> None:
        for pid in self._running:
            os.kill(pid, signal.SIGHUP)

    def _start(self, writer: int) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # so that no signal comes between the fork and the note of it
        parent, pid = os.getpid(), os.fork()
        if not pid:
            self._be_worker(parent, writer)
        self._running.add(pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)

    def _be_worker(self, parent: int, writer: int) -> NoReturn:
        code = 1
        try:
            self._running.clear()
            for number in _ENDING:
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it answers
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
            _die_with(parent)
            self._work(lambda: _say(writer))
            code = 0
        except BaseException:  # noqa: BLE001  # the process ends here: what is not told now is never told
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _mind(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        while self._running:
            pid, _ = os.wait()
            self._running.discard(pid)
            if not self._ending:
                time.sleep(_PAUSE_SECONDS)
            if not self._ending:
                self._start(nowhere)
        os.close(nowhere)


def _die_with(parent: int) -> None:
    """Has the kernel kill this process when its parent dies: otherwise it would keep the address from the next server."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _say(writer: int) -> None:
    os.write(writer, b".")
    os.close(writer)
