"""QEMU's own programs, as the tests run them: the reference for what cowherd reads and writes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

WANTED_MAJOR = 10
TIMEOUT_SECONDS = 120


class Tool:
    """One program. Calling it returns what it prints, and fails the test if it ends with another exit code than expected."""

    def __init__(self, name: str):
        self.name = name

    def __call__(self, *arguments: str | Path | int, codes: Sequence[int] = (0,), stdin: str | None = None) -> str:
        """Returns the standard output of `name arguments...`; `codes` are the exit codes that the test expects."""
        done = self.run(*arguments, stdin=stdin)
        if done.returncode not in codes:
            command = " ".join([self.name, *map(str, arguments)])
            pytest.fail(f"{command!r} exited {done.returncode}, expected {codes}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def run(self, *arguments: str | Path | int, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs `name arguments...` to its end, whatever its exit code."""
        return subprocess.run(
            [self.name, *map(str, arguments)],
            input="" if stdin is None else stdin,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=TIMEOUT_SECONDS,
            check=False,
        )


@cache
def version() -> str | None:
    """The version of qemu-img, as in "10.0.2"; None if there is none."""
    if shutil.which("qemu-img") is None:
        return None
    found = re.search(r"version (\d+(?:\.\d+)*)", Tool("qemu-img")("--version"))
    return found[1] if found else None


def problem(tools: Sequence[str]) -> str | None:
    """Why a test that compares with QEMU can't run; None if it can. `tools` are the programs it needs beside qemu-img."""
    missing = [tool for tool in ("qemu-img", *tools) if shutil.which(tool) is None]
    if missing:
        return f"{' and '.join(missing)} not installed; 'make qemu' installs QEMU's tools where it may"
    found = version()
    if found is None or int(found.split(".")[0]) < WANTED_MAJOR:
        return f"QEMU {WANTED_MAJOR} or newer is needed, qemu-img is {found}; 'make qemu' installs a newer one where it may"
    return None


def require(*tools: str) -> None:
    """Skips the running test if QEMU is not there as `problem` says; in CI, where it must be, fails it."""
    reason = problem(tools)
    if reason is None:
        return
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
