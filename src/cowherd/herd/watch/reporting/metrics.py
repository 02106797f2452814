"""Serves metrics for Prometheus over HTTP, on the loopback interface, with prometheus_client (extra: watch)."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cowherd.distribution import how_to_install
from cowherd.errors import CowherdError
from cowherd.herd.watch.events import Event
from cowherd.herd.watch.reporting.address import parse_address
from cowherd.text import printable

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric


class MetricsUnavailable(CowherdError):
    """Metrics can't be served. Attribute: `problem`."""

    def __init__(self, problem: str):
        self.problem = problem

    def __str__(self) -> str:
        return f"--metrics: {self.problem}"


@dataclass(frozen=True)
class BaseFigures:
    """The figures of a base. `verified`: when its content was last read and matched the seal, in seconds since 1970, or None."""

    path: Path
    fine: bool
    drift_blocks: int
    dependents: int
    writes: int
    verified: float | None


@dataclass(frozen=True)
class Figures:
    """The figures of a watch at one moment."""

    bases: tuple[BaseFigures, ...] = ()
    bytes_read: int = 0
    rate: int | None = None
    overflows: int = 0
    unwatched: int = 0
    hook_runs: int = 0
    hook_failures: int = 0
    hook_dropped: int = 0
    names_processes: bool = False


class Metrics:
    """Serves the figures that it was last given. `where` is `[ADDRESS:]PORT`; port 0 takes a free one; `port` is the one in use.

    Raises `InvalidRequest` for an address that other hosts can reach, unless `anywhere`; `MetricsUnavailable`.
    """

    def __init__(self, where: str, *, anywhere: bool = False):
        address, port = parse_address(where, "--metrics", anywhere=anywhere)
        try:
            from prometheus_client import CollectorRegistry, start_http_server
        except ModuleNotFoundError as error:
            raise MetricsUnavailable(f"it needs prometheus_client: {how_to_install('watch')}") from error
        self._lock = threading.Lock()
        self._figures, self._counted = Figures(), Counter[str]()
        registry = CollectorRegistry()
        registry.register(self)
        try:
            self._server, self._thread = start_http_server(port, address, registry)
        except OSError as error:
            raise MetricsUnavailable(f"{printable(where)}: {error.strerror or error}") from error
        self.address, self.port = address, int(self._server.server_port)

    def show(self, figures: Figures) -> None:
        """Takes new figures. They hold no events: `report` counts these."""
        with self._lock:
            self._figures = figures

    def report(self, event: Event) -> None:
        """Counts one event."""
        with self._lock:
            self._counted[event.kind.value] += 1

    def reopen(self) -> None:
        """Does nothing: the port stays."""

    def close(self) -> None:
        """Ends the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(1)

    def collect(self) -> Iterable[Metric]:
        """Returns the metrics; prometheus_client calls this for each request."""
        with self._lock:
            figures, counted = self._figures, dict(self._counted)
        return [*_base_metrics(figures.bases), *_watch_metrics(figures, counted)]


def _base_metrics(bases: tuple[BaseFigures, ...]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    label = ["base"]
    fine = GaugeMetricFamily("cowherd_base_fine", "Whether a sealed image is as its seal says, as far as known.", labels=label)
    drift = GaugeMetricFamily("cowherd_base_drift_blocks", "Blocks of 64 KiB that differ from what was sealed.", labels=label)
    dependents = GaugeMetricFamily("cowherd_base_dependents", "Overlays that depend on a sealed image.", labels=label)
    writes = CounterMetricFamily("cowherd_base_writes", "Notices of writes to a sealed image.", labels=label)
    verified = GaugeMetricFamily(
        "cowherd_base_verified_timestamp_seconds", "When the content was last read and found as sealed.", labels=label
    )
    for base in bases:
        name = [printable(base.path)]
        fine.add_metric(name, float(base.fine))
        drift.add_metric(name, base.drift_blocks)
        dependents.add_metric(name, base.dependents)
        writes.add_metric(name, base.writes)
        if base.verified is not None:
            verified.add_metric(name, base.verified)
    yield from (fine, drift, dependents, writes, verified)


def _watch_metrics(figures: Figures, counted: dict[str, int]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    yield GaugeMetricFamily("cowherd_watched_bases", "Sealed images that are watched.", value=len(figures.bases))
    yield GaugeMetricFamily("cowherd_unwatched_files", "Files that nothing can watch.", value=figures.unwatched)
    named = "Whether the kernel says which process wrote (fanotify)."
    yield GaugeMetricFamily("cowherd_processes_named", named, value=float(figures.names_processes))
    limit = float("inf") if figures.rate is None else figures.rate
    yield GaugeMetricFamily("cowherd_verify_rate_limit_bytes_per_second", "How fast content may be read.", value=limit)
    yield CounterMetricFamily("cowherd_verify_read_bytes", "Bytes of content that were read.", value=figures.bytes_read)
    yield CounterMetricFamily("cowherd_queue_overflows", "Times that notices were lost.", value=figures.overflows)
    yield CounterMetricFamily("cowherd_hook_runs", "Times that the command of --exec was run.", value=figures.hook_runs)
    yield CounterMetricFamily("cowherd_hook_failures", "Runs of it that failed.", value=figures.hook_failures)
    yield CounterMetricFamily("cowherd_hook_dropped", "Events that it was not run for.", value=figures.hook_dropped)
    events = CounterMetricFamily("cowherd_events", "Events by kind.", labels=["event"])
    for kind, count in sorted(counted.items()):
        events.add_metric([kind], count)
    yield events
