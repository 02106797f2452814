"""What everything that takes events has in common."""

from __future__ import annotations

from typing import Protocol

from cowherd.herd.watch.events import Event


class Reporter(Protocol):
    """Takes events. None of its methods waits for anybody, or raises because of who reads."""

    def report(self, event: Event) -> None:
        """Takes one event."""

    def reopen(self) -> None:
        """Opens again what it writes to, as after a log was rotated."""

    def close(self) -> None:
        """Ends, within a second."""
