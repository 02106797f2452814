"""Reading every sealed image of a herd once, at a bounded rate."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cowherd.extents import total
from cowherd.herd.watch.events import Event
from cowherd.herd.watch.examine import Finding, Outcome, examine, hit_facts
from cowherd.herd.watch.pace import Pace, TokenBucket
from cowherd.herd.watch.reporting.report import Reporter
from cowherd.herd.watch.stock import Stock, take_stock
from cowherd.herd.watch.watch import Watch

if TYPE_CHECKING:
    from cowherd.progress import Progress

_NOT_WRONG = (Outcome.FINE, Outcome.UNSEALED, Outcome.PENDING)


@dataclass(frozen=True, eq=False)
class Checked:
    """The finding for one image with the events that it made, for people and as JSON."""

    finding: Finding
    events: tuple[Event, ...]

    @property
    def path(self) -> Path:
        """Path of the image."""
        return self.finding.path

    @property
    def outcome(self) -> str:
        """Its state in a word."""
        return self.finding.outcome.value

    @property
    def fine(self) -> bool:
        """Whether nothing is wrong with it."""
        left_without = self.finding.outcome is Outcome.UNSEALED and self.finding.dependents
        return self.finding.outcome in _NOT_WRONG and not (left_without or self.finding.contradicted)

    @property
    def detail(self) -> str:
        """Explanation of the state, for people."""
        return "; ".join(event.message for event in self.events) or self.finding.detail

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return {
            "path": os.fspath(self.path),
            "outcome": self.outcome,
            "detail": self.detail,
            "blocks": self.finding.blocks,
            "changed_bytes": total(self.finding.changed),
            "overlays": hit_facts(self.finding),
            "contradicted": [os.fspath(path) for path in self.finding.contradicted],
        }


def check_once(
    directories: Sequence[Path],
    rate: int | None,
    reporters: Sequence[Reporter],
    progress: Callable[[Path], Progress | None] = lambda path: None,
) -> list[Checked]:
    """Reads the sealed images under `directories` in order of paths, and reports what a watch would report.

    `rate` limits reading, in bytes per second (None: no limit). `progress` returns a callback for the progress of one image.
    """
    pace, events = Pace(TokenBucket(rate)), list[Event]()

    def report(event: Event) -> None:
        events.append(event)
        for reporter in reporters:
            reporter.report(event)

    watch = Watch(report, settle=0.0)
    stock = take_stock(directories)
    watch.adopt(stock, time.monotonic())
    checked = []
    for path in sorted([*stock.bases, *_unvouched(stock)]):
        events.clear()
        finding = examine(stock, path, _both(pace.progress(urgent=True), progress(path)), always_read=True)
        watch.conclude(finding, time.monotonic())
        checked.append(Checked(finding, tuple(events)))
    return checked


def _unvouched(stock: Stock) -> list[Path]:
    """Returns the images without a seal to whose content overlays are bound: nothing proves that they still hold it."""
    overlays = stock.lineage.overlays
    return list({base.path for overlay, base in overlays if overlay.binding and not base.seal and base.path not in stock.bases})


def _both(pace: Progress, shown: Progress | None) -> Progress:
    def advance(done: int, total: int) -> None:
        if shown:
            shown(done, total)
        pace(done, total)

    return advance
