"""The loop of `cowherd watch`: waits for notices, findings, signals and the clock, and hands each to the part that handles it."""

from __future__ import annotations

import contextlib
import os
import queue
import selectors
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from cowherd.errors import CowherdError
from cowherd.herd.watch.events import Event, Kind, Level
from cowherd.herd.watch.examine import Finding
from cowherd.herd.watch.notifier import Notifier
from cowherd.herd.watch.pace import Pace, TokenBucket
from cowherd.herd.watch.reporting.report import Reporter
from cowherd.herd.watch.reporting.systemd import Systemd
from cowherd.herd.watch.rounds import next_to_read
from cowherd.herd.watch.stock import take_stock
from cowherd.herd.watch.watch import Known, Watch
from cowherd.herd.watch.workers import Crashed, Failed, InTurn, Result, Stocked, Suspicious, Workers
from cowherd.text import counted, printable

SWEEP_SECONDS = 60.0
STOP_SECONDS = 0.8
RETRY_SECONDS = 60.0
LULL_SECONDS = 0.02


class WatchFailed(CowherdError):
    """A thread of the watch has ended by an unexpected error, which Python has printed."""

    def __str__(self) -> str:
        return "the watch has failed, for the reason above; nothing is watched any more"


@dataclass(frozen=True)
class Settings:
    """What to watch and how.

    `rate` limits reading, in bytes per second (None: no limit). `settle` seconds of quiet end an incident. `every`: seconds after
    which a base is read again, None for never. `fanotify`: whether to try it.
    """

    directories: tuple[Path, ...]
    rate: int | None
    settle: float
    every: float | None
    fanotify: bool = True


class Daemon:
    """Watches until SIGTERM or SIGINT ends it; SIGHUP reloads. Raises `CantWatch`, `WatchFailed`.

    `complaints` are problems of reporters, which any thread may put there; `after_turn` is called after each turn of the loop.
    """

    def __init__(
        self,
        settings: Settings,
        reporters: Sequence[Reporter],
        complaints: queue.SimpleQueue[str],
        after_turn: Callable[[Daemon], None],
    ):
        self.settings, self._reporters = settings, tuple(reporters)
        self._complaints, self._after_turn = complaints, after_turn
        self.pace = Pace(TokenBucket(settings.rate))
        self.watch = Watch(self.report, settings.settle)
        self.notifier = Notifier(fanotify=settings.fanotify)
        self._systemd = Systemd()
        self._results: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._workers = Workers(settings.directories, self.pace, self._post)
        self._wake_out, self._wake_in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._stopping = self._reloading = self._taking_stock = self._busy = False
        self._in_turn: Path | None = None
        self._next_sweep = self._next_life = 0.0

    def report(self, event: Event) -> None:
        """Hands an event to all reporters."""
        for reporter in self._reporters:
            reporter.report(event)

    def run(self) -> None:
        """Watches until a signal ends it."""
        try:
            with _handle_signals(self._on_signal, self._wake_in):
                self._begin()
                while not self._stopping:
                    self._run_turn()
                self._systemd.tell("STOPPING=1")
                self.watch.emit(Kind.STOPPED, Level.INFO, "nothing is watched any more")
        finally:
            self._workers.stop(STOP_SECONDS)
            self.notifier.close()
            os.close(self._wake_out)
            os.close(self._wake_in)

    def stop(self) -> None:
        """Has `run` end soon."""
        self._stopping = True
        os.write(self._wake_in, b"\0")

    def _begin(self) -> None:
        stock = take_stock(self.settings.directories)
        self.watch.adopt(stock, time.monotonic())
        self.notifier.watch(stock)
        self._workers.start()
        self.watch.examine_soon(stock.bases, time.monotonic())
        self._next_sweep = time.monotonic() + SWEEP_SECONDS
        how = "writers are named (fanotify)"
        if self.notifier.why_not_fanotify:
            why = self.notifier.why_not_fanotify
            how = f"the kernel names no writers, whoever has a file open is a hint (inotify; fanotify: {why})"
        message = f"{counted(len(stock.bases), 'sealed image')} in {', '.join(map(printable, self.settings.directories))}; {how}"
        self.watch.emit(Kind.STARTED, Level.INFO, message, bases=[os.fspath(path) for path in stock.bases])
        self._complain_of_unwatched()
        self._systemd.tell("READY=1", f"STATUS={self._status()}")

    def _complain_of_unwatched(self) -> None:
        for path, problem in self.notifier.unwatched.items():
            self.watch.emit(Kind.TROUBLE, Level.WARNING, f"it can't be watched: {problem}", path)

    def _run_turn(self) -> None:
        self._wait()
        now = time.monotonic()
        notices = self.notifier.read()
        self._busy = bool(notices)
        for notice in notices:
            self.watch.hear(notice, now)
        self._take_results(now)
        if self._reloading:
            self._reload()
        if now >= self._next_sweep:
            self.watch.sweep(now)
            self._next_sweep = now + SWEEP_SECONDS
        self._begin_what_is_due(now)
        self._send_sign_of_life(now)
        self._after_turn(self)

    def _wait(self) -> None:
        now = time.monotonic()
        until = min(self.watch.next_due(), self._next_sweep, self._next_round(), self._next_life or float("inf"))
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_out, selectors.EVENT_READ)
            if self._busy:  # a short pause lets the kernel merge equal notices in its queue
                selector.select(LULL_SECONDS)
            for source in self.notifier.sources():
                selector.register(source, selectors.EVENT_READ)
            selector.select(max(0.0, until - now))
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_out, 4096)

    def _next_round(self) -> float:
        if self.settings.every is None or self._in_turn:
            return float("inf")
        return next_to_read(self._candidates(), self.watch.incidents, self.settings.every, 0.0)[1]

    def _candidates(self) -> dict[Path, Known]:
        there = self.watch.stock.bases if self.watch.stock else {}
        return {path: known for path, known in self.watch.known.items() if path in there}

    def _take_results(self, now: float) -> None:
        while not self._results.empty():
            result = self._results.get()
            if isinstance(result, Stocked):
                self._taking_stock = False
                self.watch.adopt(result.stock, now)
                self._watch_all(now)
            elif isinstance(result, Suspicious):
                self.watch.found_suspicious(result.path)
            elif isinstance(result, Finding):
                self.watch.conclude(result, now)
            elif isinstance(result, InTurn):
                self._conclude_turn(result.finding, now)
            elif isinstance(result, Failed):
                self._conclude_failure(result, now)
            elif isinstance(result, Crashed):
                raise WatchFailed
        while not self._complaints.empty():
            self.watch.emit(Kind.TROUBLE, Level.WARNING, self._complaints.get())

    def _watch_all(self, now: float) -> None:
        assert self.watch.stock is not None
        before = dict(self.notifier.unwatched)
        added = self.notifier.watch(self.watch.stock)
        if self.notifier.unwatched != before:
            self._complain_of_unwatched()
        new = {base.path for path in added for base in self.watch.stock.of_file(path)}
        self.watch.examine_soon(new - set(self.watch.incidents), now)

    def _conclude_turn(self, finding: Finding, now: float) -> None:
        self._in_turn = None
        if finding.path not in self.watch.incidents:  # else it was written to meanwhile, and will be examined anyway
            self.watch.conclude(finding, now)
        known = self.watch.known.get(finding.path)
        if known and (known.last is not finding or not finding.was_read):
            known.read_at = now + RETRY_SECONDS - (self.settings.every or 0.0)

    def _conclude_failure(self, failed: Failed, now: float) -> None:
        self.watch.emit(Kind.TROUBLE, Level.WARNING, failed.problem)
        self._taking_stock = False
        for path in failed.paths:
            incident = self.watch.incidents.get(path)
            if path == self._in_turn:
                self._in_turn, self.watch.known[path].read_at = None, now
            elif incident and incident.examined is not None:
                incident.concluded(now, still_changing=True)

    def _reload(self) -> None:
        self._reloading = False
        for reporter in self._reporters:
            try:
                reporter.reopen()
            except CowherdError as error:
                self.watch.emit(Kind.TROUBLE, Level.WARNING, str(error))
        self.watch.wants_stock = True

    def _begin_what_is_due(self, now: float) -> None:
        due = self.watch.due(now)
        if due or (self.watch.wants_stock and not self._taking_stock):
            self.watch.wants_stock, self._taking_stock = False, True
            self._workers.examine(due)
        if self._in_turn is None and self.settings.every is not None and self.watch.stock:
            path, _ = next_to_read(self._candidates(), self.watch.incidents, self.settings.every, now)
            if path:
                self._in_turn = path
                self._workers.read_in_turn(self.watch.stock, path)

    def _send_sign_of_life(self, now: float) -> None:
        if self._systemd.watchdog_seconds and now >= self._next_life:
            self._next_life = now + self._systemd.watchdog_seconds
            self._systemd.tell("WATCHDOG=1", f"STATUS={self._status()}")

    def _status(self) -> str:
        bad = sum(not known.is_fine for known in self.watch.known.values())
        return f"{counted(len(self.watch.known), 'sealed image')}, {bad or 'none'} of them not as sealed"

    def _post(self, result: Result) -> None:
        self._results.put(result)
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):  # a full pipe wakes the loop as well; a closed one has ended
            os.write(self._wake_in, b"\0")

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._reloading = True
        else:
            self._stopping = True


@contextlib.contextmanager
def _handle_signals(handler: object, wake: int) -> Iterator[None]:
    """Installs `handler` for the signals that end or reload, while the block runs; each also writes a byte to `wake`."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in numbers}  # type: ignore[arg-type]
    old_wake = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(old_wake)
        for number, old in before.items():
            signal.signal(number, old)
