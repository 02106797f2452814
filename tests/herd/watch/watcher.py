"""A real `cowherd watch` beside the test, and real programs that write to what it watches."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cowherd

COWHERD = (sys.executable, "-m", "cowherd.cli.guard.main")
SOURCES = Path(cowherd.__file__).parents[1]
PATIENCE_SECONDS = 60


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.fspath(SOURCES)}


def guard(*words: object, codes: tuple[int, ...] = (0,)) -> str:
    """Runs `cowherd` as a process of its own."""
    done = subprocess.run([*COWHERD, *map(str, words)], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode in codes, done.stdout + done.stderr
    return done.stdout


class Watcher:
    """A running watch: its events as they come, its log, and how it ends."""

    def __init__(self, process: subprocess.Popen[str]):
        self.process = process
        self.events: list[dict[str, Any]] = []
        self._log: list[str] = []
        self._came = threading.Condition()
        self._taken = 0
        self._threads = [threading.Thread(target=read) for read in (self._read_events, self._read_log)]
        for thread in self._threads:
            thread.start()

    def _read_events(self) -> None:
        for line in self.process.stdout:
            with self._came:
                self.events.append(json.loads(line))
                self._came.notify_all()

    def _read_log(self) -> None:
        self._log += self.process.stderr

    @property
    def log(self) -> str:
        """What it has logged; complete once it has ended."""
        return "".join(self._log)

    def wait_for(self, *kinds: str) -> dict[str, Any]:
        """Returns the next event of one of these kinds, after those that were waited for before."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self._came:
            while True:
                for number in range(self._taken, len(self.events)):
                    if self.events[number]["event"] in kinds:
                        self._taken = number + 1
                        return self.events[number]
                left = deadline - time.monotonic()
                assert left > 0, f"no {kinds} among {self.events}"
                self._came.wait(left)

    def kinds(self) -> list[str]:
        """The kinds of all events so far."""
        return [event["event"] for event in self.events]

    def alarms(self) -> list[dict[str, Any]]:
        """The events so far that are warnings or worse."""
        return [event for event in self.events if event["level"] in ("warning", "error")]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Ends it with a signal and returns its exit code."""
        self.process.send_signal(number)
        try:
            code = self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        for thread in self._threads:
            thread.join()
        return code


@contextlib.contextmanager
def watching(directory: Path, *options: object, prefix: tuple[str, ...] = (), **variables: str) -> Iterator[Watcher]:
    """Watches a directory with real notices; it has begun to when the block does."""
    command = [*prefix, *COWHERD, "watch", directory, "--events", "-", "--settle", "0.3s", "--every", "never", *options]
    process = subprocess.Popen(
        [*map(str, command)], env=environment() | variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    watcher = Watcher(process)
    try:
        watcher.wait_for("started")
        yield watcher
    finally:
        if process.poll() is None:
            assert watcher.end() == 0, watcher.log
        process.stdout.close()
        process.stderr.close()


@contextlib.contextmanager
def unwaited(*command: object) -> Iterator[int]:
    """Runs a program to its end, gives its process id, and lets the kernel forget it only after the block."""
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        yield process.pid
    finally:
        assert process.wait() == 0
