"""The log: a line for each event on standard error, in journald's form if journald reads it."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from cowherd.herd.watch.events import Event, Level


class Log:
    """Writes lines to `stream`: for journald with the level in front, as in `<4>`; else with the time and the level's name.

    `verbose`: write events of level info too. `to_journal`: whether journald reads the stream.
    """

    def __init__(self, stream: TextIO | None = None, *, verbose: bool = True):
        self._stream = sys.stderr if stream is None else stream
        self._verbose, self.to_journal = verbose, _is_journal(self._stream)

    def report(self, event: Event) -> None:
        """Writes one line; it is lost if the stream's reader is gone."""
        if event.level is Level.INFO and not self._verbose:
            return
        if self.to_journal:
            head = f"<{event.level.value}>"
        else:
            head = f"{event.when.astimezone().isoformat(timespec='seconds')} {event.level.name.lower()}: "
        try:
            self._stream.write(f"{head}{event.line()}\n")
            self._stream.flush()
        except OSError:
            self._verbose = False  # the reader is gone: write less; the other reporters go on

    def reopen(self) -> None:
        """Does nothing: the stream is the caller's."""

    def close(self) -> None:
        """Does nothing: the stream is the caller's."""


def _is_journal(stream: TextIO) -> bool:
    """Returns whether journald reads what is written to a stream (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        info = os.fstat(stream.fileno())
    except (OSError, ValueError):  # ValueError: io.UnsupportedOperation of a stream without a descriptor
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{info.st_dev}:{info.st_ino}"
