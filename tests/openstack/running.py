"""Runs a suite with some workers, and says how its tests ended."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.openstack.peers import Peers
from tests.openstack.suites import Suite, explanation

_RUNNER = Path(__file__).with_name("runner.py")
_LONGEST_SECONDS = 1800


@dataclass(frozen=True)
class Ended:
    """How one test ended. `detail`: the reason of a skip, the traceback of a failure."""

    id: str
    outcome: str
    seconds: float
    detail: str


@dataclass(frozen=True)
class Result:
    """How a suite ended with a number of workers. `lost`: what workers said that did not come to their end."""

    suite: Suite
    workers: int
    seconds: float
    tests: tuple[Ended, ...]
    lost: tuple[str, ...]

    def having(self, outcome: str) -> list[Ended]:
        """Returns the tests that ended so: passed, failed or skipped."""
        return [test for test in self.tests if test.outcome == outcome]

    @property
    def unexplained(self) -> list[Ended]:
        """The skips that nobody has explained."""
        return [test for test in self.having("skipped") if explanation(test.detail) is None]

    @property
    def good(self) -> bool:
        """Whether as much passes as with Glance, nothing failed, and every skip is explained."""
        enough = len(self.having("passed")) >= self.suite.passing
        return enough and not self.having("failed") and not self.unexplained and not self.lost

    def line(self) -> str:
        """Returns one line to read."""
        counts = ", ".join(f"{len(self.having(outcome))} {outcome}" for outcome in ("passed", "failed", "skipped"))
        with_workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        return f"{self.suite.name}, {with_workers}: {counts} in {self.seconds:.0f} s"


def run_suite(suite: Suite, workers: int, peers: Peers, folder: Path, env: dict[str, str]) -> Result:
    """Runs all tests of a suite, their classes dealt out to `workers` processes; their output stays in `folder`."""
    (folder / "CONTRIBUTING.rst").write_text("What a test of the SDK uploads.\n")
    began = time.monotonic()
    started = [_start(suite, part, workers, peers, folder, env) for part in range(workers)]
    try:
        lost = [_wait(process, part, folder) for part, process in enumerate(started)]
    finally:
        for process in started:
            process.kill()  # of those that have not ended: the run was interrupted
            process.wait()
    tests = [test for part in range(workers) for test in _read(_results(folder, part))]
    return Result(suite, workers, time.monotonic() - began, tuple(tests), tuple(filter(None, lost)))


def _results(folder: Path, part: int) -> Path:
    return folder / f"results-{part}.jsonl"


def _start(suite: Suite, part: int, workers: int, peers: Peers, folder: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    which: Sequence[str | Path] = ["--part", str(part), "--of", str(workers), "--to", _results(folder, part)]
    argv = [peers.program("python"), _RUNNER, *which, *suite.tests]
    with (folder / f"output-{part}.log").open("wb") as log:
        return subprocess.Popen(argv, env=env, cwd=folder, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


def _wait(process: subprocess.Popen[bytes], part: int, folder: Path) -> str:
    """Returns nothing where the worker came to its end, else what it said last."""
    try:
        if process.wait(_LONGEST_SECONDS) == 0:
            return ""
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    said = (folder / f"output-{part}.log").read_text(errors="replace").splitlines()
    return "\n".join([f"worker {part} ended with {process.returncode}:", *said[-15:]])


def _read(path: Path) -> list[Ended]:
    return [Ended(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []
