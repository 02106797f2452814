"""Decides when a base that was written to is examined: after a time of quiet, or when the writing goes on for too long."""

from __future__ import annotations

from dataclasses import dataclass, field

from cowherd.live.process import Process

PATIENCE_SECONDS, LONGEST_PATIENCE_SECONDS = 30.0, 600.0
MAX_PROCESSES = 16


@dataclass
class Incident:
    """Changes to one base, from the first notice until an examination finds that nothing came after.

    `opened`, `last`: when the first and the last notice came, in seconds of the watch's clock. `processes` did it, by id.
    `alarmed`: it has been reported. `withheld`: it has not, since it may be cowherd's own work. `patience`: seconds until an
    incident without quiet is examined, doubled with each examination. `examined`: when the running examination began, or None.
    """

    opened: float
    last: float
    patience: float = PATIENCE_SECONDS
    processes: dict[int, Process] = field(default_factory=dict)
    alarmed: bool = False
    withheld: bool = False
    examined: float | None = None

    def due(self, settle: float) -> float:
        """Returns the time at which to examine it; infinity while an examination runs. `settle` is seconds of quiet."""
        if self.examined is not None:
            return float("inf")
        return min(self.last + settle, self.opened + self.patience)

    def noted(self, now: float) -> None:
        """Notes the time of another notice."""
        self.last = now

    def examine(self, now: float) -> None:
        """Notes that an examination begins."""
        self.examined = now

    def concluded(self, now: float, *, still_changing: bool) -> bool:
        """Notes that an examination has ended. Returns whether the incident is over; if not, it is examined once more."""
        assert self.examined is not None
        over = self.last <= self.examined and not still_changing
        self.examined, self.opened, self.last = None, now, max(self.last, now)
        self.patience = min(2 * self.patience, LONGEST_PATIENCE_SECONDS)
        return over

    def is_new(self, process: Process) -> bool:
        """Remembers a process; returns whether to report it. Reports at most `MAX_PROCESSES`, each once."""
        if process.pid in self.processes or len(self.processes) >= MAX_PROCESSES:
            return False
        self.processes[process.pid] = process
        return True
