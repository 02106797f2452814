"""Work on a stored image in a process with limits: its bytes can exhaust or crash nothing else.

The process begins with `enter`, and writes an answer: a line of JSON, and whatever else its work has to say.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from cowherd.children import limit_self, module_command, module_environment
from cowherd.errors import HostFileError
from cowherd.service.intake.faults import Refused
from cowherd.service.orphans import die_with
from cowherd.text import printable

MEMORY = 4 << 30
"""Bytes of address space that the work on one image may take."""
SECONDS = 600
"""Seconds of processor time that the work on one image may take; twice as long by the clock."""
HOST_FAILED = 3
"""Exit code of the process if the host could not take its answer, which says nothing of the image."""
_LONGEST_LINE = 1 << 20


class Job(NamedTuple):
    """What a process does: its module, and the words for what it does and did."""

    module: str
    noun: str
    did: str


class Limits(NamedTuple):
    """What a process may take: bytes of address space, seconds of processor time, and bytes of the longest file it writes."""

    memory: int
    seconds: int
    file: int


def run_limited(job: Job, limits: Limits, path: Path, arguments: Sequence[str | Path], answer: IO[bytes]) -> dict[str, Any]:
    """Does a job on the image at `path`; returns the line of its answer. The rest of `answer` can be read then.

    Raises `Refused`, also if the job takes more than its limits; `HostFileError`, if the host fails the process.
    """
    head = module_command(job.module, *(str(limit) for limit in limits), str(os.getpid()))
    command: list[str | Path] = [*head, path, *arguments]
    with tempfile.TemporaryFile() as said:
        try:
            ended = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=said,
                env=module_environment(),
                timeout=2 * limits.seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Refused("limits", f"its {job.noun} took too long") from error
        if ended.returncode == HOST_FAILED:
            raise HostFileError(path, _verb(job), OSError(errno.EIO, _last_line(said)))
        if ended.returncode:
            raise Refused("limits", _why(job, ended.returncode, said))
    return _first_line(job, path, answer)


def nonsense(job: Job) -> Refused:
    """Returns the error for an answer that makes no sense."""
    return Refused("limits", f"the process that {job.did} it gave no sensible answer")


def _first_line(job: Job, path: Path, answer: IO[bytes]) -> dict[str, Any]:
    """Reads the line of an answer; raises what it tells: `host` is an errno, `check` and `detail` are a refusal."""
    answer.seek(0)
    try:
        facts = json.loads(answer.readline(_LONGEST_LINE))
        if "host" in facts:
            raise HostFileError(path, _verb(job), OSError(int(facts["host"]), os.strerror(int(facts["host"]))))
        if "check" in facts:
            raise Refused(printable(facts["check"]), printable(facts["detail"]))
        return dict(facts)
    except (ValueError, KeyError, TypeError) as error:
        raise nonsense(job) from error


def _verb(job: Job) -> str:
    return job.did.removesuffix("ed")


def _why(job: Job, code: int, said: IO[bytes]) -> str:
    # The soft limit of time equals the hard one, and the kernel looks at the hard one first: the usual end is SIGKILL.
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"its {job.noun} took too long"
    if code < 0:
        return f"the process that {job.did} it crashed ({signal.Signals(-code).name})"
    line = _last_line(said)
    if "MemoryError" in line.partition(":")[0]:  # Python's own, or numpy's
        return f"its {job.noun} took too much memory"
    return line or f"the process that {job.did} it gave no answer"


def _last_line(said: IO[bytes]) -> str:
    said.seek(0)
    lines = said.read(_LONGEST_LINE).decode(errors="replace").strip().splitlines()
    return printable(lines[-1])[:200] if lines else ""


def enter() -> list[str]:
    """Called first in the process: sets its limits, and has it die with the service. Returns the arguments of its job."""
    memory, seconds, longest, parent = map(int, sys.argv[1:5])
    die_with(parent)
    limit_self(memory, seconds, longest)
    return sys.argv[5:]
