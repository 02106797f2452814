"""The process that inspects a stored qcow2 image: `python -m cowherd.service.intake.worker`, started by `stored`.

Its arguments are the most bytes of memory, seconds, bytes of its answer and bytes of the disk, the image, and for each file that
it stands on, the nearest first, its format and its path. Its answer is a
line of JSON: `check` and `detail` of a refusal, `host` (an errno) if the host can't read the file, or `virtual_size`. `runs` and
`digests` say how many of them follow, if the content could be read.
"""

from __future__ import annotations

import json
import os
import resource
import sys

from cowherd.errors import CowherdError, HostFileError
from cowherd.formats import registry
from cowherd.herd.records.digest_rows import Content, read_content
from cowherd.image.open import disk_of
from cowherd.image.reading import Reading, open_reading
from cowherd.ops.inspect.inspector import inspect
from cowherd.ops.inspect.report import Inspection
from cowherd.service.intake.inspection import ALLOWED, ALLOWED_IN_OVERLAYS, POLICY
from cowherd.service.intake.stored import HOST_FAILED
from cowherd.storage.hostfile import HostFile


def main() -> int:
    """Inspects one image, and writes the answer. Returns the exit code."""
    memory, seconds, most_answer, most = map(int, sys.argv[1:5])
    _limit(memory, seconds, most_answer)
    path, below = sys.argv[5], list(zip(sys.argv[6::2], sys.argv[7::2], strict=True))
    try:
        found = inspect(
            path, format=registry.QCOW2.name, policy=POLICY, allow=ALLOWED_IN_OVERLAYS if below else ALLOWED, max_size=most
        )
        content = _content_of(path, found, below) if found.safe else None
    except HostFileError as error:
        _answer({"host": error.errno})
        return 0
    if not found.safe:
        _answer({"check": found.refused[0].name, "detail": found.refused[0].detail})
    else:
        _answer({"virtual_size": found.virtual_size}, content)
    return 0


def _content_of(path: str, found: Inspection, below: list[tuple[str, str]]) -> Content | None:
    """Returns what a guest would see; None if it is encrypted, or a compressed cluster that was not tried is damaged."""
    try:
        if below:
            files = [(HostFile.open(name, lock=None), format) for format, name in ((found.format, path), *below)]
            with disk_of(files) as disk:
                return read_content(Reading.of(disk))
        with open_reading(path, format=found.format, backing=False) as reading:
            return read_content(reading)
    except HostFileError:
        raise
    except CowherdError:
        return None


def _answer(facts: dict[str, object], content: Content | None = None) -> None:
    if content is not None:
        facts |= {"runs": len(content.runs), "digests": len(content.digests)}
    out = sys.stdout.buffer
    out.write(json.dumps(facts).encode("ascii") + b"\n")
    if content is not None:
        out.write(content.runs.tobytes())
        out.write(content.digests)
    out.flush()


def _limit(memory: int, seconds: int, most_answer: int) -> None:
    for limit, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, most_answer),
        (resource.RLIMIT_CORE, 0),
    ):
        # A limit that the caller already has may be lower, and only root could raise it.
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))


if __name__ == "__main__":
    try:
        os._exit(main())
    except OSError as error:  # it can't write its answer
        print(error, file=sys.stderr, flush=True)
        os._exit(HOST_FAILED)
