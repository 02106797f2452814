"""Measures `cowherd ps` on a host with many machines: `python -m bench.machines`.

Each machine is a QEMU that waits at its first instruction, with an overlay of its own on one base, and a QMP monitor.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.measure import BenchmarkFailed, as_installed

_QEMU = ("qemu-system-x86_64", "-accel", "tcg", "-S", "-m", "16", "-display", "none", "-nodefaults")
_PS = (sys.executable, "-c", "from cowherd.cli.programs import guard; guard()", "ps")
_SECONDS_TO_START = 120


def main(words: Sequence[str] | None = None) -> int:
    """Prints what `ps` takes for the machines that the command line asks for, all awake and then one stopped; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.machines", description="Measures cowherd ps with many machines.")
    parser.add_argument("--number", type=int, default=100, metavar="N", help="machines (default: 100)")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="runs of ps (default: 5)")
    arguments = parser.parse_args(words)
    as_installed()
    with tempfile.TemporaryDirectory() as name, _machines(Path(name), arguments.number) as machines:
        base = Path(name) / "base"
        _print(f"{arguments.number} machines", [_timed(base, arguments.number, stopped=0) for _ in range(arguments.runs)])
        machines[0].send_signal(signal.SIGSTOP)
        _print("with one of them stopped", [_timed(base, arguments.number, stopped=1)])
    return 0


def _print(what: str, seconds: Sequence[float]) -> None:
    least, median, most = min(seconds), statistics.median(seconds), max(seconds)
    print(f"{what}: {median:.2f} s ({least:.2f} to {most:.2f}, {len(seconds)} run(s))")


@contextlib.contextmanager
def _machines(folder: Path, number: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Runs machines until the block ends; they have opened their images when the block begins."""
    _qemu_img("create", "-q", "-f", "qcow2", folder / "base", "64M")
    started: list[subprocess.Popen[bytes]] = []
    try:
        for name in map(str, range(number)):
            _qemu_img("create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", folder / name)
            words = (
                "-name",
                f"machine-{name}",
                "-drive",
                f"file={name},if=virtio",
                "-qmp",
                f"unix:{name}.qmp,server=on,wait=off",
            )
            started.append(subprocess.Popen((*_QEMU, *words), cwd=folder, stdin=subprocess.DEVNULL))
        for name in range(number):
            _wait(folder / f"{name}.qmp")
        yield started
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()


def _qemu_img(*words: str | Path) -> None:
    subprocess.run(("qemu-img", *map(str, words)), check=True)


def _wait(path: Path) -> None:
    """Waits for a monitor's greeting: a machine greets when all that it was started with is there."""
    until = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_SECONDS_TO_START)
            connection.connect(os.fspath(path))
            if connection.recv(1):
                return
        time.sleep(0.05)
    raise BenchmarkFailed(f"nobody greets at {path}")


def _timed(base: Path, number: int, *, stopped: int) -> float:
    """Returns the seconds that one `ps` takes. Raises `BenchmarkFailed` unless it shows all machines, and which are stopped."""
    began = time.perf_counter()
    done = subprocess.run((*_PS, "--image", str(base)), capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    shown, silent = done.stdout.count("machine machine-"), done.stdout.count("not-answering")
    if (shown, silent) != (number, stopped):
        raise BenchmarkFailed(f"ps shows {shown} machines, {silent} of them silent: {done.stdout[-500:]}{done.stderr}")
    return seconds


if __name__ == "__main__":
    raise SystemExit(main())
