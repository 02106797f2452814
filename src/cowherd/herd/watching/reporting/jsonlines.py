"""The events as JSON, one a line, to standard output or appended to a file."""

from __future__ import annotations

import json
import os
import sys
from typing import TextIO

from cowherd.errors import HostFileError
from cowherd.herd.watching.events import Event


class JsonLines:
    """Writes each event as a line of JSON. `target` is a file, or "-" for standard output. Raises `HostFileError`."""

    def __init__(self, target: str):
        self._target = target
        self._stream = self._open()
        self.failed: str | None = None

    def _open(self) -> TextIO:
        if self._target == "-":
            return sys.stdout
        try:
            fd = os.open(self._target, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise HostFileError(self._target, "write events to", error) from error
        return os.fdopen(fd, "w", encoding="ascii")

    def report(self, event: Event) -> None:
        """Writes one line; where it can't, `failed` says why, until it can again."""
        try:
            self._stream.write(json.dumps(event.to_json()) + "\n")
            self._stream.flush()
            self.failed = None
        except OSError as error:
            self.failed = error.strerror or str(error)

    def reopen(self) -> None:
        """Opens the file again by its name. Raises `HostFileError`; the old one stays in use then."""
        if self._target != "-":
            stream, self._stream = self._stream, self._open()
            stream.close()

    def close(self) -> None:
        """Closes the file."""
        if self._target != "-":
            self._stream.close()
