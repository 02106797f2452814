"""Several processes that answer on one listening socket, and the one that minds them."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from cowherd.errors import CowherdError
from cowherd.service.orphans import die_with

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

_ENDING = (signal.SIGTERM, signal.SIGINT)
_HEARD = (*_ENDING, signal.SIGHUP, signal.SIGCHLD)
_PAUSE_SECONDS = 1.0
"""Between the starts of successors, so that processes that can't live do not take all of the host's time."""
_SOON_SECONDS = 0.05
_LATER_SECONDS = 3600.0
_PID_BYTES = 4
_log = logging.getLogger("cowherd.service")


class WorkerFailed(CowherdError):
    """A process ended before it answered. What was wrong stands on standard error."""

    def __str__(self) -> str:
        return "a process of the service ended before it answered"


class Workers:
    """Processes that each run `work`, and are replaced when they die.

    `work` is given the number of its place, from 0 on, and a function to call once it answers, and then each time that it has
    done what SIGHUP asks for. It gets SIGHUP blocked, so that none is lost before it can be handled.
    """

    def __init__(self, count: int, work: Callable[[int, Callable[[], None]], None]):
        self._count, self._work = count, work
        self._running: dict[int, int] = {}
        """The processes, each with its place."""
        self._told: set[int] = set()
        """Who answers, and has done what was asked for last."""
        self._then: Callable[[], None] | None = None
        """What to call once all have."""
        self._next_start = 0.0
        self._answered = self._ending = self._failed = False

    def run(
        self,
        answers: Callable[[], None],
        reload: Callable[[], bool] = lambda: False,
        reloaded: Callable[[], None] = lambda: None,
    ) -> None:
        """Starts the processes, calls `answers` once all of them answer, and returns when SIGTERM or SIGINT has ended them all.

        At SIGHUP `reload` says whether the processes are to hear of it; `reloaded` is called once all have done what it asks for.
        Raises `WorkerFailed` if one ends before all answer; the others are ended then.
        """

        def answered() -> None:
            self._answered = True
            answers()

        # The signals wait until they are asked for: so none comes between a fork and the note of it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        try:
            self._then = answered
            while len(self._running) < self._count:
                self._start()
            self._mind(reload, reloaded)
        finally:
            os.close(self._reader)
            os.close(self._writer)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if self._failed:
            raise WorkerFailed

    def _mind(self, reload: Callable[[], bool], reloaded: Callable[[], None]) -> None:
        while self._running or not self._ending:
            heard = signal.sigtimedwait(_HEARD, self._patience())
            if heard is None or heard.si_signo == signal.SIGCHLD:
                self._note_ends()
            elif heard.si_signo in _ENDING:
                self._end()
            elif reload() and not self._ending:
                self._pass_on(reloaded)
            self._note_told()
            self._replace()

    def _patience(self) -> float:
        """Returns how long to wait for a signal. What the processes tell comes without one."""
        if self._then is not None:
            return _SOON_SECONDS
        missing = len(self._running) < self._count and not self._ending
        return max(0.0, self._next_start - time.monotonic()) if missing else _LATER_SECONDS

    def _end(self) -> None:
        self._ending, self._then = True, None
        for pid in self._running:
            os.kill(pid, signal.SIGTERM)

    def _pass_on(self, reloaded: Callable[[], None]) -> None:
        self._note_told()
        self._told.clear()
        self._then = reloaded if self._answered else self._then
        for pid in self._running:
            os.kill(pid, signal.SIGHUP)

    def _note_told(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while said := os.read(self._reader, _PID_BYTES):
                self._told.add(int.from_bytes(said, sys.byteorder))
        if self._then is not None and len(self._running) == self._count and self._running.keys() <= self._told:
            then, self._then = self._then, None
            then()

    def _note_ends(self) -> None:
        for pid in list(self._running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended and not self._ending:
                _log.error("process %d of the service ended (%s)", pid, _reason(status))
                self._failed = not self._answered
            self._running.pop(ended, None)
        if self._failed and not self._ending:
            self._end()

    def _replace(self) -> None:
        if len(self._running) < self._count and not self._ending and time.monotonic() >= self._next_start:
            self._start()
            self._next_start = time.monotonic() + _PAUSE_SECONDS

    def _start(self) -> None:
        place = min(set(range(self._count)) - set(self._running.values()))
        parent, pid = os.getpid(), os.fork()
        if not pid:
            self._be_worker(parent, place)
        self._running[pid] = place

    def _be_worker(self, parent: int, place: int) -> NoReturn:
        code = 1
        try:
            for number in _ENDING:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (*_ENDING, signal.SIGCHLD))
            die_with(parent)
            os.close(self._reader)
            self._work(place, lambda: _say(self._writer))
            code = 0
        except BaseException:  # noqa: BLE001  # the process ends here: what is not told now is never told
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(code)


def _say(writer: int) -> None:
    os.write(writer, os.getpid().to_bytes(_PID_BYTES, sys.byteorder))


def _reason(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"exit code {code}" if code >= 0 else f"signal {-code}"
