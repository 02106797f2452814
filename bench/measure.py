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

_LAUNCHER = Path(__file__).with_name("launch.py")


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

    `stopped`: it was not at its end when its time was up, and so would have cost more.
    """

    wall: float
    cpu: float
    peak: int
    code: int
    output: Path
    stopped: bool = False


def as_installed() -> None:
    """Compiles cowherd's modules, as installing does: a checkout that has not run yet would compile them in its first run."""
    found = importlib.util.find_spec("cowherd")
    assert found is not None
    for folder in found.submodule_search_locations or ():
        compileall.compile_dir(folder, quiet=2)


def measure(command: Command, output: Path, limit: float | None = None) -> Run:
    """Runs `command` with its standard output in the file `output`, for `limit` seconds at most.

    Raises `BenchmarkFailed` if it fails.
    """
    launch = [sys.executable, "-I", "-S", str(_LAUNCHER), str(output), str(limit or 0), *command.words]
    subprocess.run(["sync", "--file-system", str(output.parent)], check=True)  # nobody pays for what earlier runs left unwritten
    printed, errors, code = _launched(launch)
    if code != 0:
        raise BenchmarkFailed(f"could not start {command.words[0]}: {errors.strip()}")
    cost = json.loads(printed)
    if cost["code"] not in command.codes and not cost["stopped"]:
        raise BenchmarkFailed(f"{' '.join(command.words)[:400]}: exit code {cost['code']}: {errors.strip()[-400:]}")
    return Run(cost["wall"], cost["cpu"], cost["peak"], cost["code"], output, cost["stopped"])


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
