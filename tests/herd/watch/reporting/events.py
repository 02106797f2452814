"""Events to be reported."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cowherd.herd.watch.events import Event, Kind, Level
from cowherd.live.process import Process

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def event(kind: Kind = Kind.WRITTEN, level: Level = Level.WARNING, **facts: object) -> Event:
    """One event of a base with an awkward name, by a process with an awkward command."""
    processes = [Process(7, "dd", "dd of=x", "root", "cron.service")]
    return Event(kind, level, "written to", WHEN, Path("/srv/a\nb.qcow2"), processes, facts)
