"""Runs a command for each event that somebody should act on: all facts as JSON on its input, the main ones as variables."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shlex
import signal
import subprocess
import threading
from collections.abc import Callable

from cowherd.errors import InvalidRequest
from cowherd.herd.watch.events import Event, Level

MAX_WAITING = 256
_OUTPUT_KEPT = 2000


class Hook:
    """Runs `command` for one event after the other, on a thread of its own. It is split into words, but no shell runs it.

    It runs for events of level notice and worse. One run may take `limit` seconds; then it and the processes that it started are
    killed. The thread calls `complain` for a run that failed. If more than 256 events wait, further ones are dropped.
    """

    def __init__(self, command: str, limit: float, complain: Callable[[str], None]):
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise InvalidRequest(f"--exec {command!a}: {error}") from error
        if not self._words:
            raise InvalidRequest("--exec needs a command")
        self._limit, self._complain = limit, complain
        self._waiting: queue.Queue[Event | None] = queue.Queue()
        self._stopping = threading.Event()
        self._running: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self.runs, self.failures, self.dropped = 0, 0, 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def report(self, event: Event) -> None:
        """Queues one event for the command."""
        if event.level is Level.INFO:
            return
        if self._waiting.qsize() >= MAX_WAITING:
            self.dropped += 1
        else:
            self._waiting.put(event)

    def reopen(self) -> None:
        """Does nothing: each run starts the command again."""

    def finish(self, limit: float) -> None:
        """Waits until the command has run for all events, at most `limit` seconds."""
        self._waiting.put(None)
        self._thread.join(limit)

    def close(self) -> None:
        """Drops the events that wait, and kills a run that has not ended after half a second."""
        self._stopping.set()
        self._waiting.put(None)
        self._thread.join(0.5)
        with self._lock:
            if self._running:
                _kill(self._running)
        self._thread.join(0.3)

    def _run(self) -> None:
        while (event := self._waiting.get()) is not None and not self._stopping.is_set():
            self.runs += 1
            problem = self._run_once(event)
            if problem and not self._stopping.is_set():
                self.failures += 1
                self._complain(f"--exec {shlex.join(self._words)}: {problem}")

    def _run_once(self, event: Event) -> str | None:
        """Runs the command for one event; returns the problem, None if it went well."""
        try:
            process = subprocess.Popen(
                self._words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=os.environ | environment_of(event),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            return f"it can't be run: {error}"
        with self._lock:
            self._running = process
        try:
            printed, _ = process.communicate(json.dumps(event.to_json()).encode("ascii"), timeout=self._limit)
        except subprocess.TimeoutExpired:
            _kill(process)
            with contextlib.suppress(subprocess.TimeoutExpired):  # a process outside of its group holds its output open
                process.communicate(timeout=1)
            return f"it was killed after {self._limit:g} seconds"
        finally:
            with self._lock:
                self._running = None
        if process.returncode:
            return f"it ended with {process.returncode}: {printed[:_OUTPUT_KEPT].decode(errors='replace').strip()!a}"
        return None


def environment_of(event: Event) -> dict[str, str]:
    """Returns the command's variables for an event. None of the values can hold a zero byte, which no variable can hold."""
    found = {"COWHERD_EVENT": event.kind.value, "COWHERD_LEVEL": event.level.name.lower(), "COWHERD_MESSAGE": event.line()}
    found |= {"COWHERD_BASE": os.fspath(event.base)} if event.base else {}
    if event.processes:
        first = event.processes[0]
        found |= {"COWHERD_PID": str(first.pid), "COWHERD_COMMAND": first.command or "", "COWHERD_USER": first.user or ""}
        found |= {"COWHERD_UNIT": first.unit or "", "COWHERD_DOMAIN": first.domain or ""}
    found |= {"COWHERD_BLOCKS": str(event.facts["blocks"])} if "blocks" in event.facts else {}
    return found


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kills a command and the processes that it started, except those that left its process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
