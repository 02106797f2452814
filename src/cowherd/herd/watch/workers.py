"""The threads that read: one for bases that were just written to, and one that reads all bases again and again."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cowherd.errors import CowherdError
from cowherd.herd.watch.examine import Finding, examine
from cowherd.herd.watch.pace import Pace, Stopped
from cowherd.herd.watch.stock import Stock, take_stock
from cowherd.storage.iopriority import be_idle


@dataclass(frozen=True)
class Stocked:
    """A new stock of the herd."""

    stock: Stock


@dataclass(frozen=True)
class Suspicious:
    """The files of the base at `path` are not as its seal left them; its content is being read."""

    path: Path


@dataclass(frozen=True)
class Failed:
    """The herd, or its bases at `paths`, could not be examined. `problem` is a text for people."""

    problem: str
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class InTurn:
    """The finding of a base that was read in its turn."""

    finding: Finding


@dataclass(frozen=True)
class Crashed:
    """A thread has ended by an unexpected error, which Python has printed."""


Result = Stocked | Suspicious | Finding | Failed | InTurn | Crashed


class Workers:
    """Two threads with a queue each. They call `post` with their results; it must not block."""

    def __init__(self, directories: Sequence[Path], pace: Pace, post: Callable[[Result], None]):
        self._directories, self._pace, self._post = directories, pace, post
        self._urgent: queue.SimpleQueue[tuple[Path, ...] | None] = queue.SimpleQueue()
        self._rounds: queue.SimpleQueue[tuple[Stock, Path] | None] = queue.SimpleQueue()
        runs = (self._run_urgent, self._run_rounds)
        self._threads = [threading.Thread(target=self._run_guarded, args=(run,), daemon=True) for run in runs]

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()

    def examine(self, paths: Sequence[Path]) -> None:
        """Asks the urgent thread to take stock of the herd again and to examine the bases at `paths`."""
        self._urgent.put(tuple(paths))

    def read_in_turn(self, stock: Stock, path: Path) -> None:
        """Asks the other thread to read the content of a base while nothing urgent is read."""
        self._rounds.put((stock, path))

    def stop(self, seconds: float) -> bool:
        """Ends the threads; returns whether they ended within `seconds`."""
        self._pace.stop()
        self._urgent.put(None)
        self._rounds.put(None)
        for thread in self._threads:
            thread.join(seconds / len(self._threads))
        return not any(thread.is_alive() for thread in self._threads)

    def _run_guarded(self, run: Callable[[], None]) -> None:
        ended_well = False
        try:
            run()
            ended_well = True
        finally:
            if not ended_well:
                self._post(Crashed())

    def _run_urgent(self) -> None:
        while (paths := self._urgent.get()) is not None:
            self._pace.hurry(True)
            try:
                self._examine_all(paths)
            except Stopped:
                return
            except (CowherdError, OSError) as error:
                self._post(Failed(str(error), paths))
            finally:
                self._pace.hurry(False)

    def _examine_all(self, paths: Sequence[Path]) -> None:
        stock = take_stock(self._directories)
        self._post(Stocked(stock))
        for path in paths:
            progress = self._pace.progress(urgent=True)
            self._post(examine(stock, path, progress, always_read=False, suspicious=self._post_suspicion))

    def _post_suspicion(self, path: Path) -> None:
        self._post(Suspicious(path))

    def _run_rounds(self) -> None:
        be_idle()
        while (task := self._rounds.get()) is not None:
            stock, path = task
            try:
                self._post(InTurn(examine(stock, path, self._pace.progress(urgent=False), always_read=True)))
            except Stopped:
                return
            except (CowherdError, OSError) as error:
                self._post(Failed(str(error), (path,)))
