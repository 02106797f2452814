"""Inspects a stored image wholly and reads its content, in a process with limits.

The process writes the runs and digests of the content, as `Content` has them, behind the line of its answer.
"""

from __future__ import annotations

import itertools
import tempfile
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from cowherd.formats import registry
from cowherd.herd.records.block import BLOCK, DIGEST_BYTES
from cowherd.herd.records.digest_rows import Content
from cowherd.service.intake import foreign
from cowherd.service.intake.lineage import Below
from cowherd.service.intake.processes.limited import MEMORY, SECONDS, Job, Limits, nonsense, run_limited

MOST_ANSWER = 1 << 30
"""Bytes of the longest answer: the digests of 2 TiB of data."""
_JOB = Job("cowherd.service.intake.processes.inspector", "inspection", "inspected")


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
    arguments: list[str | Path] = [str(most)]
    for one in below:
        arguments += [one.format, one.path]
    with tempfile.TemporaryFile() as answer:
        facts = run_limited(_JOB, Limits(memory, seconds, MOST_ANSWER), path, arguments, answer)
        try:
            return Stored(int(facts["virtual_size"]), _read_content(facts, answer))
        except (ValueError, KeyError, TypeError) as error:
            raise nonsense(_JOB) from error


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
