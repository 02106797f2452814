"""The process that inspects a stored qcow2 image: `python -m cowherd.service.intake.processes.inspector`, started by `stored`.

Its arguments are the image, the most bytes of the disk, and for each file that it stands on, the nearest first, its format and
its path. Its answer is a line of JSON: `check` and `detail` of a refusal, `host` (an errno) if the host can't read the file, or
`virtual_size`. `runs` and `digests` say how many of them follow, if the content could be read.
"""

from __future__ import annotations

import json
import os
import sys

from cowherd.errors import CowherdError, HostFileError
from cowherd.formats import registry
from cowherd.herd.records.digest_rows import Content, read_content
from cowherd.image.open import disk_of
from cowherd.image.reading import Reading, open_reading
from cowherd.ops.inspect.inspector import inspect
from cowherd.ops.inspect.report import Inspection
from cowherd.service.intake.inspection import ALLOWED, ALLOWED_IN_OVERLAYS, POLICY
from cowherd.service.intake.processes.limited import HOST_FAILED, enter
from cowherd.storage.hostfile import HostFile


def main() -> int:
    """Inspects one image, and writes the answer. Returns the exit code."""
    path, most, *others = enter()
    below = list(zip(others[::2], others[1::2], strict=True))
    try:
        found = inspect(
            path, format=registry.QCOW2.name, policy=POLICY, allow=ALLOWED_IN_OVERLAYS if below else ALLOWED, max_size=int(most)
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


if __name__ == "__main__":
    try:
        os._exit(main())
    except OSError as error:  # it can't write its answer
        print(error, file=sys.stderr, flush=True)
        os._exit(HOST_FAILED)
