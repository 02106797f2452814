"""Writes the events as JSON, one per line, to standard output or to the end of a file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import BinaryIO

from cowherd.errors import HostFileError
from cowherd.herd.watch.events import Event
from cowherd.text import printable


class JsonLines:
    """Writes each event as a line of JSON. `target` is a file, or "-" for standard output. Raises `HostFileError`.

    Calls `complain` when lines begin to be lost, as on a full disk.
    """

    def __init__(self, target: str, complain: Callable[[str], None]):
        self._target, self._complain = target, complain
        self._stream = self._open()
        self._failing = False

    def _open(self) -> BinaryIO:
        if self._target == "-":
            return sys.stdout.buffer
        try:
            fd = os.open(self._target, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise HostFileError(self._target, "write events to", error) from error
        return os.fdopen(fd, "wb", buffering=0)

    def report(self, event: Event) -> None:
        """Writes one line; a line that can't be written is lost."""
        try:
            self._stream.write(json.dumps(event.to_json()).encode("ascii") + b"\n")
            self._stream.flush()
            self._failing = False
        except OSError as error:
            if not self._failing:
                self._failing = True  # set before the complaint, which becomes an event that comes back here
                self._complain(f"events can't be written to {printable(self._target)}: {error.strerror or error}")

    def reopen(self) -> None:
        """Opens the file again by its name. Raises `HostFileError` and then keeps the old file in use."""
        if self._target != "-":
            stream, self._stream = self._stream, self._open()
            stream.close()

    def close(self) -> None:
        """Closes the file."""
        if self._target != "-":
            self._stream.close()
