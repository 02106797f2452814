"""The output of the guard's commands: text for people, or one JSON document; progress on standard error."""

from __future__ import annotations

import os
import sys
import time
from contextvars import ContextVar

from cowherd.cli.guard.screen import columns, padded, terminal_columns, unpainted, wants_colour, window
from cowherd.errors import CowherdError, error_of_host
from cowherd.sizes import human_size
from cowherd.text import shown
from cowherd.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from cowherd.storage.losses import Loss

_TO_THE_END = "\x1b[K"
_CLEAR = f"\r{_TO_THE_END}"
_SLOW_SECONDS = 1.0
_REDRAW_SECONDS = 0.2


quiet: ContextVar[bool] = ContextVar("quiet", default=False)
"""Whether nobody wants to see progress."""

as_lines: ContextVar[bool] = ContextVar("as_lines", default=False)
"""Whether standard error is to be lines of JSON (--progress json)."""

SCHEMA = 1
"""The number of the documents' schema: it changes when a key of a document changes its name or meaning, or goes."""


class Report(NamedTuple):
    """The result of a command: a JSON document, the same as text, notes for standard error, and an exit code."""

    document: Mapping[str, Any]
    lines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    exit_code: int = 0


def show(report: Report, *, as_json: bool, colour: str = "auto", quietly: bool = False) -> int:
    """Prints a report and returns its exit code. Notes go to standard error, also where the report is a document.

    `colour` is the choice of --color. `quietly` leaves the text out.
    """
    if report.notes and not as_lines.get() and sys.stderr.isatty():
        sys.stderr.write(_CLEAR)  # progress that an error ended
    for note in report.notes:
        say(note)
    if as_json:
        from cowherd.cli.guard.layout import laid_out

        sys.stdout.writelines(laid_out({"schema": SCHEMA, **report.document}))
        print()
    elif report.lines and not quietly:
        text = "\n".join(report.lines)
        print(text if wants_colour(colour, sys.stdout) else unpainted(text))
    sys.stdout.flush()
    return report.exit_code


def say(note: str) -> None:
    """Writes a line about the work to standard error, as in "cowherd: could not look at ...", or the same as a line of JSON."""
    if as_lines.get():
        from cowherd.cli.guard.jsonlines import note_line

        note_line(note.removeprefix("cowherd: "))
    else:
        print(note, file=sys.stderr, flush=True)


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


def reported(work: Callable[[], Report]) -> Report:
    """Returns the report of some work, or the error that ended it as one."""
    try:
        return work()
    except CowherdError as error:
        return error_report(error)
    except OSError as error:
        return error_report(error_of_host(error))


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
    """Returns rows of the same length as lines with aligned columns; the last column is not padded.

    A row that is too wide for the window has its last cell in a line of its own.
    """
    cells = list(rows)
    if not cells:
        return []
    widths = [max(map(columns, column)) for column in zip(*(row[:-1] for row in cells), strict=True)]
    width = window()
    return [line for row in cells for line in _lines_of(row, widths, width)]


def _lines_of(row: tuple[str, ...], widths: Sequence[int], width: int | None) -> Iterable[str]:
    *lead, last = row
    start = "".join(f"{padded(cell, width)}  " for cell, width in zip(lead, widths, strict=True))
    if width is None or columns(start + last) <= width or not lead:
        return ((start + last).rstrip(),)
    return start.rstrip(), f"    {last}"


def progress(what: str, *, unit: str = "B") -> Callable[[int, int], None] | None:
    """Returns a function that shows (amount done, amount in all) of work that takes over a second, with its rate and the time
    that is left; or that writes lines of JSON. None with --quiet, and without a terminal for the text.

    `unit` "B": amounts are bytes; any other is what is counted, as in "files".
    """
    if as_lines.get() and not quiet.get():
        from cowherd.cli.guard.jsonlines import progress_lines

        return progress_lines(what, unit)
    if quiet.get() or not sys.stderr.isatty():
        return None
    began = last = time.monotonic()

    def update(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - began > _SLOW_SECONDS and (now - last > _REDRAW_SECONDS or done >= total):
            last = now
            sys.stderr.write(
                f"\r{_line(what, _reached(done, total, now - began, unit))}{_TO_THE_END if done < total else _CLEAR}"
            )
            sys.stderr.flush()

    return update


def progress_of_reading(name: str) -> Callable[[int, int], None] | None:
    """Returns what shows how far the reading of an image is, as `progress` does."""
    return progress(f"reading {shown(name)}")


def _line(what: str, reached: str) -> str:
    """Returns a line of progress that fits the window: one that goes on in the next can't be written over."""
    room = terminal_columns() - columns(reached) - len(": ") - 1
    if columns(what) > room:
        while what and columns(what) > room - len("..."):
            what = what[:-1]
        what += "..."
    return f"{what}: {reached}"


def _reached(done: int, total: int, seconds: float, unit: str) -> str:
    """Returns how far work is that has taken `seconds`, as in "45 %, 210 MiB/s, 12 s left"."""
    reached = f"{100 * done // max(total, 1)} %"
    if not 0 < done < total:
        return reached
    rate = done / seconds
    speed = f"{human_size(int(rate))}/s" if unit == "B" else f"{rate:.0f} {unit}/s"
    return f"{reached}, {speed}, {_duration((total - done) / rate)} left"


def _duration(seconds: float) -> str:
    minutes, left = divmod(int(seconds) + 1, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {left} s" if minutes else f"{left} s"
