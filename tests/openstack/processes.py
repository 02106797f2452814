"""Servers started for a run: each in a process group of its own, with its output in a file, and ended with the run."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

MEMORY = Path("/dev/shm")
_SECONDS_TO_START, _SECONDS_TO_END = 90, 40


class DidNotStart(Exception):
    """A server ended, or answered nothing in time."""


@contextlib.contextmanager
def folder_in_memory(keep: bool = False) -> Iterator[Path]:
    """Yields a new folder, in memory where that is possible: keystone's commits take three times as long on a disk."""
    made = Path(tempfile.mkdtemp(prefix="cowherd-openstack-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None))
    try:
        yield made
    finally:
        if not keep:
            shutil.rmtree(made)


def free_port() -> int:
    """Returns a port of the loopback that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def run(argv: Sequence[str | Path], env: Mapping[str, str], log: Path) -> None:
    """Runs a command to its end, its output in `log`. Raises CalledProcessError with the log's end."""
    with log.open("ab") as output:
        done = subprocess.run(argv, env=env, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise DidNotStart(f"{' '.join(map(str, argv))} ended with {done.returncode}:\n{_end_of(log)}")


@contextlib.contextmanager
def server(argv: Sequence[str | Path], env: Mapping[str, str], log: Path, url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Starts a server, yields it once `url` answers (whatever the status), and ends it with all that it started.

    Raises DidNotStart.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            argv, env=env, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        _wait_for_an_answer(url, process, log)
        yield process
    finally:
        _end(process)


def _wait_for_an_answer(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    latest = time.monotonic() + _SECONDS_TO_START
    while not _answers(url):
        if process.poll() is not None:
            raise DidNotStart(f"{process.args!r} ended with {process.returncode}:\n{_end_of(log)}")
        if time.monotonic() > latest:
            raise DidNotStart(f"{url} answered nothing for {_SECONDS_TO_START} s:\n{_end_of(log)}")
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=30).close()
    except urllib.error.HTTPError as answer:
        answer.close()
        return True
    except OSError:
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        pass
    finally:  # workers too, should the first process have ended without them
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _end_of(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
