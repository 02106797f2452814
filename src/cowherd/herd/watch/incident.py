"""When a base that is written to is examined: once it has been left alone, or has not been for too long."""

from __future__ import annotations

from dataclasses import dataclass, field

from cowherd.live.process import Process

PATIENCE_SECONDS, LONGEST_PATIENCE_SECONDS = 30.0, 600.0
MAX_PROCESSES = 16


@dataclass
class Incident:
    """Changes to one base, from the first notice until an examination finds that nothing came after.

    `opened`, `last`: when the first and the last notice came. `processes` by id are those that did it; `alarmed`: it has been
    reported; `withheld`: it has not, since what is known may be cowherd's own doing. `patience`: how long one that does not
    end is left alone, doubled with each examination.
    """

    opened: float
    last: float
    patience: float = PATIENCE_SECONDS
    processes: dict[int, Process] = field(default_factory=dict)
    alarmed: bool = False
    withheld: bool = False
    examined: float | None = None

    def due(self, settle: float) -> float:
        """Returns when it is to be examined, infinity while it is being."""
        if self.examined is not None:
            return float("inf")
        return min(self.last + settle, self.opened + self.patience)

    def noted(self, now: float) -> None:
        """Another notice came."""
        self.last = now

    def examine(self, now: float) -> None:
        """An examination begins."""
        self.examined = now

    def concluded(self, now: float, *, still_changing: bool) -> bool:
        """An examination has ended. Returns whether that was all, or it has to be examined once more."""
        assert self.examined is not None
        over = self.last <= self.examined and not still_changing
        self.examined, self.opened, self.last = None, now, max(self.last, now)
        self.patience = min(2 * self.patience, LONGEST_PATIENCE_SECONDS)
        return over

    def is_new(self, process: Process) -> bool:
        """Remembers a process; returns whether it is worth saying. Of a great many only the first are."""
        if process.pid in self.processes or len(self.processes) >= MAX_PROCESSES:
            return False
        self.processes[process.pid] = process
        return True
