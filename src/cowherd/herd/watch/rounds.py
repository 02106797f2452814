"""Chooses the base that is read next: the one that has waited longest, once its time has come."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from cowherd.herd.watch.watch import Known


def next_to_read(known: Mapping[Path, Known], busy: Collection[Path], every: float, now: float) -> tuple[Path | None, float]:
    """Returns the base to read now, or None, and the time at which the next base is due (infinity if none ever is).

    A base that was never read is due at once, any other `every` seconds after its last reading. Bases in `busy` are left out,
    since they are examined anyway.
    """
    waiting = {path: _due(one, every) for path, one in known.items() if path not in busy}
    if not waiting:
        return None, float("inf")
    path = min(waiting, key=lambda one: (waiting[one], one))
    return (path if waiting[path] <= now else None), waiting[path]


def _due(known: Known, every: float) -> float:
    return float("-inf") if known.read_at is None else known.read_at + every
