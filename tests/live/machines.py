"""Real machines that wait at their first instruction, for tests of what runs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_LONGEST_SECONDS = 60
READY = ("-chardev", "socket,id=ready,path={},server=on,wait=off", "-mon", "chardev=ready,mode=readline")
QEMU = ("qemu-system-x86_64", "-accel", "tcg", "-m", "16", "-S", "-display", "none", "-nodefaults")


@contextlib.contextmanager
def machine(
    directory: Path, *words: str, monitor: str | None = None, command: Sequence[str] = QEMU, ready: Sequence[str] = READY
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a machine in `directory` until the block ends; it has opened its images when the block begins.

    With `monitor` it has a QMP monitor of that name. Without one, another socket tells when it is ready.
    """
    socket_name = monitor or f"ready-{len(list(directory.iterdir()))}"
    asked = ("-qmp", f"unix:{socket_name},server=on,wait=off") if monitor else [word.format(socket_name) for word in ready]
    process = subprocess.Popen([*command, *words, *asked], cwd=directory, stdin=subprocess.DEVNULL)
    try:
        _wait(process, directory / socket_name)
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def nbd_server(directory: Path, *words: str) -> Iterator[int]:
    """Serves an image with qemu-nbd until the block ends; gives the number of its process."""
    file = directory / "nbd.pid"
    subprocess.run(("qemu-nbd", "--fork", "--persistent", "--pid-file", file, "-k", directory / "nbd", *words), check=True)
    pid = int(file.read_text())
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)


def _wait(process: subprocess.Popen[bytes], path: Path) -> None:
    until = time.monotonic() + _LONGEST_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_LONGEST_SECONDS)
            connection.connect(os.fspath(path))
            if connection.recv(1):  # it greets when all that it was started with is there
                return
        time.sleep(0.02)
    raise AssertionError(f"it did not start: {process.poll()}")
