"""A QEMU that waits at its first instruction, and what it says of its disks: the ground truth for what a command line opens."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

START_SECONDS = 60


class Monitor:
    """A connection to QEMU's machine protocol. Calling it runs a command and returns its answer."""

    def __init__(self, path: Path):
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._lines = self._socket.makefile("r")
        self._lines.readline()
        self("qmp_capabilities")

    def __call__(self, command: str, **arguments: object) -> Any:
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        while True:
            answer = json.loads(self._lines.readline())
            if "error" in answer:
                pytest.fail(f"{command}: {answer['error']}")
            if "return" in answer:
                return answer["return"]

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


def connected(path: Path, process: subprocess.Popen[Any]) -> Monitor:
    """Waits for QEMU's monitor, whose socket is there a moment before it answers."""
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            return Monitor(path)
        except (FileNotFoundError, ConnectionRefusedError):
            if process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"QEMU did not start: {process.stderr.read().decode() if process.stderr else process.returncode}")
        time.sleep(0.01)


@contextlib.contextmanager
def waiting_machine(arguments: Sequence[str], directory: Path) -> Iterator[Monitor]:
    """Runs QEMU in `directory` without ever starting its processor."""
    monitor = directory / "qmp"
    command = ["qemu-system-x86_64", "-M", "pc", "-accel", "tcg", "-m", "16", "-display", "none", "-S"]
    command += ["-nodefaults", "-qmp", f"unix:{monitor},server,nowait", *arguments]
    with subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            talk = connected(monitor, process)
            yield talk
            talk.close()
        finally:
            process.kill()
    monitor.unlink()


def open_files(talk: Monitor) -> dict[str, bool]:
    """The local files that QEMU has open as disks, and whether for writing."""
    nodes = [node for node in talk("query-named-block-nodes") if node["drv"] in ("file", "host_device")]
    return {node["file"]: not node["ro"] for node in nodes}
