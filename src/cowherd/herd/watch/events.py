"""The events that a watch reports: frozen values, which can be told as JSON and as a line of a log."""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cowherd.live.process import Process
from cowherd.text import printable


class Level(enum.IntEnum):
    """How bad an event is; the numbers are those of syslog(3)."""

    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6


class Kind(enum.StrEnum):
    """The kinds of events; docs/watch.md has a table of them."""

    STARTED = "started"
    STOPPED = "stopped"
    SEALED = "sealed"
    WRITTEN = "written"
    CHANGING = "changing"
    REPLACED = "replaced"
    REMOVED = "removed"
    UNPROTECTED = "unprotected"
    DRIFTED = "drifted"
    DAMAGED = "damaged"
    INTACT = "intact"
    RESEALED = "resealed"
    CONTRADICTED = "contradicted"
    INTERRUPTED = "interrupted"
    UNSEALED = "unsealed"
    UNREADABLE = "unreadable"
    VERIFIED = "verified"
    OVERFLOW = "overflow"
    TROUBLE = "trouble"


@dataclass(frozen=True)
class Event:
    """One event. `base` is the sealed image that it is about, None for the watch itself; `facts` are plain values for JSON.

    `processes` did it, as far as they are known. `when` is aware of its time zone.
    """

    kind: Kind
    level: Level
    message: str
    when: datetime
    base: Path | None = None
    processes: Sequence[Process] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        """Returns the event as one line of text, escaped."""
        about = f"{printable(self.base)}: " if self.base else ""
        by = f"; by {', '.join(process.describe() for process in self.processes)}" if self.processes else ""
        return f"{self.kind.value}: {about}{self.message}{by}"

    def to_json(self) -> dict[str, Any]:
        """Returns plain values with stable keys: first those of every event, then those of this kind."""
        return {
            "event": self.kind.value,
            "level": self.level.name.lower(),
            "time": self.when.isoformat(timespec="milliseconds"),
            "base": os.fspath(self.base) if self.base else None,
            "message": self.message,
            "processes": [process.to_json() for process in self.processes],
            **self.facts,
        }
