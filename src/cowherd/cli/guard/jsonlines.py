"""Lines of JSON on standard error, for --progress json: how far work is, and what else would be said there as text.

As with borg's --log-json: standard output keeps its one document, and a reader of standard error takes each line by itself.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

from cowherd.cli.guard.output import SCHEMA

if TYPE_CHECKING:
    from typing import Any

    from cowherd.progress import Progress

_LEAST_SECONDS = 0.2


def progress_lines(what: str, unit: str) -> Progress:
    """Returns a function that writes a line about (amount done, amount in all) when work begins and ends, and between at most
    five a second. It may be called from any thread."""
    began, last, told = time.monotonic(), 0.0, (-1, -1)

    def update(done: int, total: int) -> None:
        nonlocal last, told
        now = time.monotonic()
        if (done, total) != told and (done >= total or now - last > _LEAST_SECONDS):
            last, told = now, (done, total)
            _write(
                {"type": "progress", "what": what, "done": done, "total": total, "unit": unit, "seconds": round(now - began, 3)}
            )

    return update


def note_line(message: str) -> None:
    """Writes a line with a note or an error."""
    _write({"type": "note", "message": message})


def _write(line: dict[str, Any]) -> None:
    sys.stderr.write(json.dumps({"schema": SCHEMA, **line}) + "\n")  # one write: lines of several threads do not mix
    sys.stderr.flush()
