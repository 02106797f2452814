"""Inspects a stored image wholly and reads its content, in a process with limits: its bytes can exhaust or crash nothing else.

The process writes its answer to a file: a line of JSON, then the runs and digests of the content, as `Content` has them.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from cowherd.errors import HostFileError
from cowherd.formats import registry
from cowherd.herd.records.block import BLOCK, DIGEST_BYTES
from cowherd.herd.records.digest_rows import Content
from cowherd.service.intake import foreign
from cowherd.service.intake.faults import Refused
from cowherd.service.intake.lineage import Below
from cowherd.text import printable

MEMORY = 4 << 30
"""Bytes of address space that the inspection of one image may take."""
SECONDS = 600
"""Seconds of processor time that it may take; twice as long by the clock."""
MOST_ANSWER = 1 << 30
"""Bytes of the longest answer: the digests of 2 TiB of data."""
HOST_FAILED = 3
"""Exit code of the process if the host could not take its answer, which says nothing of the image."""
_LONGEST_LINE = 1 << 20


class Stored(NamedTuple):
    """What a stored image was found to be: the bytes of its disk and its content, None where they are not known."""

    virtual_size: int | None
    content: Content | None


def inspect_stored(
    path: Path, format: str, most: int, *, below: Sequence[Below] = (), memory: int = MEMORY, seconds: int = SECONDS
) -> Stored:
    """Inspects the image that is stored at `path`, of a `format` that was recognised in its bytes.

    `most` is the bytes of the largest disk that is let through, `below` what an overlay stands on. Raises `Refused`, also if the
    inspection takes more than `memory` (bytes) or `seconds` (of processor time); `HostFileError`.
    """
    if format != registry.QCOW2.name:
        return Stored(foreign.virtual_size_of(path, format, most), None)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    limits = map(str, (memory, seconds, MOST_ANSWER, most))
    command = [sys.executable, "-P", "-m", "cowherd.service.intake.worker", *limits, os.fspath(path)]
    for one in below:
        command += [one.format, os.fspath(one.path)]
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as said:
        try:
            ended = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=answer, stderr=said, env=environment, timeout=2 * seconds, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise Refused("limits", "its inspection took too long") from error
        if ended.returncode == HOST_FAILED:
            raise HostFileError(path, "inspect", OSError(errno.EIO, _last_line(said)))
        if ended.returncode:
            raise Refused("limits", _why(ended.returncode, said))
        return _read_answer(path, answer)


def _read_answer(path: Path, answer: IO[bytes]) -> Stored:
    answer.seek(0)
    try:
        facts = json.loads(answer.readline(_LONGEST_LINE))
        if "host" in facts:
            raise HostFileError(path, "inspect", OSError(int(facts["host"]), os.strerror(int(facts["host"]))))
        if "check" in facts:
            raise Refused(printable(facts["check"]), printable(facts["detail"]))
        return Stored(int(facts["virtual_size"]), _read_content(facts, answer))
    except (ValueError, KeyError, TypeError) as error:
        raise Refused("limits", "the process that inspected it gave no sensible answer") from error


def _read_content(facts: dict[str, Any], answer: IO[bytes]) -> Content | None:
    """Reads the content from an answer. Raises ValueError if its runs are none of that disk."""
    if "runs" not in facts:
        return None
    runs = array("q")
    runs.frombytes(answer.read(int(facts["runs"]) * runs.itemsize))
    digests = bytearray(answer.read(int(facts["digests"])))
    size, ascending = int(facts["virtual_size"]), all(a < b for a, b in itertools.pairwise(runs))
    blocks = sum(runs[1::2]) - sum(runs[::2])
    if len(runs) % 2 or not ascending or blocks * DIGEST_BYTES != len(digests):
        raise ValueError("runs that do not fit their digests")
    if runs and (runs[0] < 0 or runs[-1] > -(-size // BLOCK)):
        raise ValueError("runs past the end of the disk")
    return Content(size, runs, digests)


def _why(code: int, said: IO[bytes]) -> str:
    # The soft limit of time equals the hard one, and the kernel looks at the hard one first: the usual end is SIGKILL.
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return "its inspection took too long"
    if code < 0:
        return f"the process that inspected it crashed ({signal.Signals(-code).name})"
    line = _last_line(said)
    if "MemoryError" in line.partition(":")[0]:  # Python's own, or numpy's
        return "its inspection took too much memory"
    return line or "the process that inspected it gave no answer"


def _last_line(said: IO[bytes]) -> str:
    said.seek(0)
    lines = said.read(_LONGEST_LINE).decode(errors="replace").strip().splitlines()
    return printable(lines[-1])[:200] if lines else ""
