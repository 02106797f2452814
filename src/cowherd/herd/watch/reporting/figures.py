"""Collects the figures of a running watch, for the metrics."""

from __future__ import annotations

from cowherd.herd.watch.daemon import Daemon
from cowherd.herd.watch.reporting.hook import Hook
from cowherd.herd.watch.reporting.metrics import BaseFigures, Figures
from cowherd.herd.watch.watch import Known


def figures_of(daemon: Daemon, hook: Hook | None) -> Figures:
    """Returns the figures of a watch at this moment."""
    stock = daemon.watch.stock
    bases = stock.bases if stock else {}
    return Figures(
        bases=tuple(
            BaseFigures(
                path=path,
                fine=known.is_fine,
                drift_blocks=_drift_blocks(known),
                dependents=len(bases[path].dependents),
                writes=known.writes,
                verified=known.verified,
            )
            for path, known in daemon.watch.known.items()
            if path in bases
        ),
        bytes_read=daemon.pace.bytes_read,
        rate=daemon.settings.rate,
        overflows=daemon.watch.overflows,
        unwatched=len(daemon.notifier.unwatched),
        hook_runs=hook.runs if hook else 0,
        hook_failures=hook.failures if hook else 0,
        hook_dropped=hook.dropped if hook else 0,
        names_processes=daemon.notifier.why_not_fanotify is None,
    )


def _drift_blocks(known: Known) -> int:
    return known.last.blocks if known.last else 0
