"""The service as a process of its own, which can be killed with all that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.service.web.running import Client
from tests.waiting import wait_until

_PORT_PATIENCE_SECONDS = 60


class Process:
    """`cowherd serve` over data in `folder`, with `workers`, and the records at `database` ("": in the data)."""

    def __init__(self, folder: Path, workers: int, database: str = ""):
        self.data, self._log = folder / "data", folder / "log"
        self._workers, self._database = workers, database
        self._process: subprocess.Popen[bytes] | None = None
        self._begin = 0

    def start(self) -> None:
        """Starts it, and does not wait until it answers."""
        words = [*self.settings, "listen=127.0.0.1:0", f"workers={self._workers}", "reap_after=1"]
        with self._log.open("ab") as log:
            self._begin = log.tell()
            # A session of its own: so the processes that it starts are known by their group.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cowherd.cli.guard.main", "serve", *(word for one in words for word in ("--set", one))],
                stderr=log,
                start_new_session=True,
            )

    @property
    def settings(self) -> list[str]:
        """What says where its data are, as KEY=VALUE."""
        return [f"data={self.data}", f"database={self._database}"]

    def client(self) -> Client:
        """Waits until it answers, and returns a client of it."""
        wait_until(lambda: self._port() or self._has_ended(), _PORT_PATIENCE_SECONDS)
        port = self._port()
        assert port is not None, self.log()
        return Client(port)

    def kill(self) -> None:
        """Kills it and all its processes at once, and waits until none is left."""
        assert self._process is not None
        group = self._process.pid
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        self._process.wait()
        wait_until(lambda: not _lives(group))

    def log(self) -> str:
        """Returns what it and those before it wrote to standard error."""
        return self._log.read_text(errors="replace")

    def _port(self) -> int | None:
        with self._log.open("rb") as log:
            log.seek(self._begin)
            said = [line for line in log.read().split(b"\n")[:-1] if b"serving on http" in line]
        return int(said[0].rpartition(b":")[2]) if said else None

    def _has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None


def _lives(group: int) -> bool:
    """Tells whether a process of a group is left that is more than a name."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def process(folder: Path, workers: int, database: str = "") -> Iterator[Process]:
    """Gives a service that is not started yet; whatever runs of it is killed at the end."""
    service = Process(folder, workers, database)
    try:
        yield service
    finally:
        if service._process is not None:
            service.kill()
