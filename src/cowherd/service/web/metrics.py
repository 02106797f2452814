"""Figures for Prometheus: what there is, what is under way, what was done, what is damaged, and when content was verified."""

from __future__ import annotations

import ipaddress
import itertools
import math
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from starlette.responses import Response

from cowherd.distribution import how_to_install
from cowherd.errors import HostFileError
from cowherd.service import counting
from cowherd.service.counting import BOUNDS, COUNTERS, GAUGES, TIMED
from cowherd.service.records.blobs import DAMAGED, MISSING, WHOLE
from cowherd.service.records.figures import figures
from cowherd.service.records.image import now
from cowherd.service.web.access import require
from cowherd.service.web.errors import Unavailable
from cowherd.service.web.operation import operation
from cowherd.service.web.routing import resource

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from prometheus_client.metrics_core import Metric
    from starlette.requests import Request
    from starlette.routing import Route

    from cowherd.service.records.figures import Figures
    from cowherd.service.web.call import Call

    _Values = dict[tuple[str, ...], float]

PATH = "/metrics"


def is_local(request: Request) -> bool:
    """Tells whether a request comes from this host: through a socket file, or over the loopback network."""
    return request.client is None or not request.client.host or ipaddress.ip_address(request.client.host).is_loopback


@operation("see_service", gives={"text/plain": None})
def show(call: Call) -> Response:
    """Shows the figures to this host, and to administrators. Raises `Unavailable` without prometheus_client."""
    if not is_local(call.request):
        require(call, "see_service")
    try:
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
    except ModuleNotFoundError as error:
        raise Unavailable(f"Metrics need prometheus_client: {how_to_install('watch')}") from error
    registry = CollectorRegistry()
    registry.register(_Collector(call))
    return Response(generate_latest(registry), 200, None, CONTENT_TYPE_LATEST)


class _Collector:
    """Gives the figures to prometheus_client."""

    def __init__(self, call: Call):
        self._call = call

    def collect(self) -> Iterator[Metric]:
        began, due = time.perf_counter(), now() - timedelta(days=self._call.service.settings.scrub_days)
        with self._call.service.database.read() as connection:
            found = figures(connection, [*self._call.service.stores], due)
        took = time.perf_counter() - began
        yield from _of_records(found)
        yield from _of_scrub(found, due)
        yield _gauge("cowherd_database_seconds", "How long the database took for these figures.", (), {(): took})
        yield from _of_stores(self._call)
        yield from _of_work([*self._call.service.stores])

    def describe(self) -> list[Metric]:
        return []  # so that registering asks for no figures


def _of_records(found: Figures) -> Iterator[Metric]:
    yield _gauge("cowherd_images", "Images by state.", ("status",), _keyed(found.images))
    yield _gauge("cowherd_tasks", "Tasks that are remembered, by state.", ("status",), _keyed(found.tasks))
    yield _gauge("cowherd_uploads", "Uploads under way or waiting, by kind.", ("kind",), _keyed(found.uploads))
    places: _Values = {}
    for store, state in found.stores.items():
        whole = state.contents - state.damaged - state.missing
        places |= {(store, WHOLE): whole, (store, DAMAGED): state.damaged, (store, MISSING): state.missing}
    yield _gauge("cowherd_blobs", "Contents in a store, by their state there.", ("store", "state"), places)
    yield _gauge("cowherd_named_bytes", "What all images have in sum.", (), {(): found.sums.named})
    yield _gauge("cowherd_stored_bytes", "What their contents have, each counted once.", (), {(): found.sums.stored})


def _of_scrub(found: Figures, due: datetime) -> Iterator[Metric]:
    eldest = {name: state.eldest for name, state in found.stores.items() if state.contents > state.missing}
    verified: _Values = {(store,): moment.timestamp() if moment else 0.0 for store, moment in eldest.items()}
    about = "When the content was verified that was verified the longest ago, in seconds since 1970; 0 if never."
    yield _gauge("cowherd_least_verified_timestamp_seconds", about, ("store",), verified)
    lag: _Values = {
        (store,): max(0.0, (due - moment).total_seconds()) if moment else math.inf for store, moment in eldest.items()
    }
    yield _gauge("cowherd_scrub_lag_seconds", "For how long content has been due to be verified, at most.", ("store",), lag)
    overdue = {store: found.stores[store].late for store in eldest}
    yield _gauge("cowherd_scrub_overdue_blobs", "Contents that are due to be verified.", ("store",), _keyed(overdue))


def _of_stores(call: Call) -> Iterator[Metric]:
    free: _Values = {}
    for name, store in call.service.stores.items():
        try:
            free[name,] = store.free_bytes()
        except HostFileError:  # a store without a figure is one that can't be asked: there is an alarm for absent figures
            continue
    yield _gauge("cowherd_store_free_bytes", "What a store has room for.", ("store",), free)


def _of_work(stores: Sequence[str]) -> Iterator[Metric]:
    """Gives what was counted since the service began. Each store has a figure from then on, so that its first rise is seen."""
    from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily

    found = counting.totals()
    for one in COUNTERS:
        counter = CounterMetricFamily(one.name, one.about, labels=one.labels)
        values: _Values = {(store,): 0.0 for store in stores if one.labels == ("store",)}
        for words, value in (values | found.get(one.name, {})).items():
            counter.add_metric(words, value)
        yield counter
    for one in GAUGES:
        yield _gauge(one.name, one.about, one.labels, found.get(one.name, {}))
    for one in TIMED:
        histogram = HistogramMetricFamily(one.name, one.about, labels=one.labels)
        for words, timed in counting.buckets(found.get(one.name, {})).items():
            sums = zip((*map(str, BOUNDS), "+Inf"), itertools.accumulate(timed.counts), strict=True)
            histogram.add_metric(words, list(sums), timed.seconds)
        yield histogram


def _keyed(counts: Mapping[str, int]) -> _Values:
    return {(name,): count for name, count in counts.items()}


def _gauge(name: str, about: str, labels: Sequence[str], values: _Values) -> Metric:
    from prometheus_client.metrics_core import GaugeMetricFamily

    metric = GaugeMetricFamily(name, about, labels=labels)
    for words, value in values.items():
        metric.add_metric(words, value)
    return metric


ROUTES: list[Route] = [resource(PATH, GET=show)]
