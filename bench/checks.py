"""Whether both sides came to the same result. Each check returns what differs, or None."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.inputs import Workspace
from bench.job import Result

Check = Callable[[Workspace, Result, Result], str | None]


def same_image(name: str) -> Check:
    """The image `name` of both sides has the same guest content, and ours, if it is qcow2, is clean for qemu-img check."""

    def check(_space: Workspace, theirs: Result, ours: Result) -> str | None:
        return compared(theirs.out / name, ours.out / name) or (_checked(ours.out / name) if name.endswith("qcow2") else None)

    return check


def same_overlay(name: str) -> Check:
    """As `same_image`, and both stand on the same base."""

    def check(space: Workspace, theirs: Result, ours: Result) -> str | None:
        bases = [Path(_info(side.out / name).get("full-backing-filename", "")).resolve() for side in (theirs, ours)]
        return f"backing files {bases[0]} and {bases[1]}" if bases[0] != bases[1] else same_image(name)(space, theirs, ours)

    return check


def same_code(_space: Workspace, theirs: Result, ours: Result) -> str | None:
    """Both gave the same exit code."""
    return None if theirs.run.code == ours.run.code else f"exit codes {theirs.run.code} and {ours.run.code}"


def same_json(_space: Workspace, theirs: Result, ours: Result) -> str | None:
    """Both printed the same JSON document."""
    their, our = document(theirs), document(ours)
    return None if their == our else f"{_short(their)} and {_short(our)}"


def same_allocation(name: str) -> Check:
    """The image `name` of both sides has the same size and as many clusters mapped, and ours is clean."""

    def check(_space: Workspace, theirs: Result, ours: Result) -> str | None:
        reports = [json.loads(_run("qemu-img", "check", "--output=json", side.out / name).stdout) for side in (theirs, ours)]
        keys = ("total-clusters", "allocated-clusters", "check-errors", "corruptions", "leaks")
        facts = [{key: report.get(key) for key in keys} for report in reports]
        return None if facts[0] == facts[1] else f"{facts[0]} and {facts[1]}"

    return check


def document(result: Result) -> Any:
    """The JSON document that a run printed."""
    return json.loads(result.run.output.read_text())


def compared(one: Path, other: Path) -> str | None:
    """How the guest content of two images differs, as qemu-img says it."""
    done = _run("qemu-img", "compare", one, other)
    return None if done.returncode == 0 else (done.stdout + done.stderr).strip()


def _checked(path: Path) -> str | None:
    done = _run("qemu-img", "check", path)
    return None if done.returncode == 0 else (done.stdout + done.stderr).strip()


def _info(path: Path) -> Any:
    return json.loads(_run("qemu-img", "info", "--output=json", path).stdout)


def _run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)


def _short(value: Any) -> str:
    return json.dumps(value)[:200]
