"""One run of one command, measured from outside."""

from __future__ import annotations

import compileall
import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

LAUNCHER = Path(__file__).with_name("launch.py")


class BenchmarkFailed(Exception):
    """A command of the benchmark failed, or results were not equal; the message says which."""


@dataclass(frozen=True)
class Command:
    """A command to measure. `label` tells a peer's configurations apart; `codes` are the exit codes that are no failure."""

    label: str
    words: tuple[str, ...]
    codes: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Run:
    """What one run cost: seconds of wall clock and CPU, `peak` bytes of memory; its exit code, and the file with its output.

    `stopped`: it was not at its end when its time was up, and so would have cost more. `flush`: how many seconds more it took
    until all was on the disk; 0 of a job that writes nothing.
    """

    wall: float
    cpu: float
    peak: int
    code: int
    output: Path
    stopped: bool = False
    flush: float = 0.0

    @property
    def durable(self) -> float:
        """Seconds until what the run wrote is on the disk."""
        return self.wall + self.flush


def as_installed() -> None:
    """Compiles cowherd's modules, as installing does: a checkout that has not run yet would compile them in its first run."""
    found = importlib.util.find_spec("cowherd")
    assert found is not None
    for folder in found.submodule_search_locations or ():
        compileall.compile_dir(folder, quiet=2)


def measure(command: Command, output: Path, limit: float | None = None, *, writes: bool = False) -> Run:
    """Runs `command` with its standard output in the file `output`, for `limit` seconds at most.

    If it `writes`, the file system of `output` is flushed then, which is timed, too. Raises `BenchmarkFailed` if it fails.
    """
    subprocess.run(["sync", "--file-system", str(output.parent)], check=True)  # nobody pays for what earlier runs left unwritten
    flush = str(output.parent) if writes else ""
    launch = [sys.executable, "-I", "-S", str(LAUNCHER), str(output), str(limit or 0), flush, *command.words]
    printed, errors, code = _launched(launch)
    if code != 0:
        raise BenchmarkFailed(f"could not measure {command.words[0]}: {errors.strip()}")
    cost = json.loads(printed)
    if cost["code"] not in command.codes and not cost["stopped"]:
        raise BenchmarkFailed(f"{' '.join(command.words)[:400]}: exit code {cost['code']}: {errors.strip()[-400:]}")
    return Run(cost["wall"], cost["cpu"], cost["peak"], cost["code"], output, cost["stopped"], cost["flush"])


def _launched(words: list[str]) -> tuple[str, str, int]:
    """Runs the launcher; returns its output, errors and exit code. An interrupt ends all that it runs."""
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, env=_environment()) as process:
        try:
            return *process.communicate(), process.returncode
        except KeyboardInterrupt:
            process.terminate()
            process.communicate()
            raise


def _environment() -> dict[str, str]:
    """This process's environment without what makes Python slower (no bytecode kept, no buffered output); the same for all."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON") or name == "PYTHONPATH"}
