"""The interface of everything that takes events."""

from __future__ import annotations

from typing import Protocol

from cowherd.herd.watch.events import Event


class Reporter(Protocol):
    """Takes events. No method waits for a reader of the events, or raises because of one."""

    def report(self, event: Event) -> None:
        """Takes one event."""

    def reopen(self) -> None:
        """Opens its target again, as after a log was rotated."""

    def close(self) -> None:
        """Ends within a second."""
