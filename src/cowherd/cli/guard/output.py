"""The output of the guard's commands: text for people, or one JSON document; progress on standard error."""

from __future__ import annotations

import os
import sys
import time

from cowherd.text import shown
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from cowherd.errors import CowherdError
    from cowherd.storage.losses import Loss

_CLEAR = "\r\x1b[K"
_SLOW_SECONDS = 1.0
_REDRAW_SECONDS = 0.2


class Report(NamedTuple):
    """The result of a command: a JSON document, the same as text, notes for standard error, and an exit code."""

    document: Mapping[str, Any]
    lines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    exit_code: int = 0


def show(report: Report, *, as_json: bool) -> int:
    """Prints a report and returns its exit code. Notes go to standard error, as text, either way."""
    if report.notes and sys.stderr.isatty():
        sys.stderr.write(_CLEAR)  # progress that an error ended
    for note in report.notes:
        print(note, file=sys.stderr)
    if as_json:
        from cowherd.cli.guard.layout import laid_out

        sys.stdout.writelines(laid_out(report.document))
        print()
    elif report.lines:
        print("\n".join(report.lines))
    sys.stdout.flush()
    return report.exit_code


def with_losses(report: Report, lost: Sequence[Loss]) -> Report:
    """Adds to a report the attributes that new files could not get from the files that they replaced."""
    notes = tuple(f"cowherd: {shown(one.path)} could not be given {one.what}: {one.problem}" for one in lost)
    document = {**report.document, "not_given": [one._asdict() for one in lost]}
    return report._replace(document=document, notes=report.notes + notes)


def error_report(error: CowherdError) -> Report:
    """Returns an error as a report: its message on standard error, and with --json its class and facts as a document."""
    facts = {name: plain(value) for name, value in error.facts().items()}
    document = {"error": {"kind": type(error).__name__, "message": str(error), **facts}, "exit_code": error.exit_code}
    return Report(document, notes=(f"cowherd: {error}",), exit_code=error.exit_code)


def plain(value: object) -> Any:
    """Returns a value in a form that JSON has: paths as text, bytes as hexadecimal digits, sequences as lists."""
    if isinstance(value, str):  # as most are, where there are many
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def table(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Returns rows of the same length as lines with aligned columns; the last column is not padded."""
    cells = list(rows)
    if not cells:
        return []
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    line = "  ".join([*(f"%-{width}s" for width in widths[:-1]), "%s"])
    return [(line % row).rstrip() for row in cells]


def progress(what: str) -> Callable[[int, int], None] | None:
    """Returns a function that shows (bytes done, bytes in all) of work that takes over a second; None without a terminal."""
    if not sys.stderr.isatty():
        return None
    began = last = time.monotonic()

    def update(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - began > _SLOW_SECONDS and (now - last > _REDRAW_SECONDS or done >= total):
            last = now
            end = _CLEAR if done >= total else ""
            sys.stderr.write(f"\r{what}: {100 * done // max(total, 1)} %{end}")
            sys.stderr.flush()

    return update
