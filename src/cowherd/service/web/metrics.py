"""Figures for Prometheus: what there is, what is under way, what is damaged, and how long ago content was verified."""

from __future__ import annotations

import ipaddress
import time
from typing import TYPE_CHECKING

from starlette.responses import Response

from cowherd.distribution import how_to_install
from cowherd.errors import HostFileError
from cowherd.service.records.figures import figures
from cowherd.service.web.access import require
from cowherd.service.web.errors import Unavailable
from cowherd.service.web.routing import resource

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

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
        began = time.perf_counter()
        with self._call.service.database.read() as connection:
            found = figures(connection)
        took = time.perf_counter() - began
        yield from _of_records(found)
        yield _gauge("cowherd_database_seconds", "How long the database took for these figures.", (), {(): took})
        yield from _of_stores(self._call)

    def describe(self) -> list[Metric]:
        return []  # so that registering asks for no figures


def _of_records(found: Figures) -> Iterator[Metric]:
    yield _gauge("cowherd_images", "Images by state.", ("status",), _keyed(found.images))
    yield _gauge("cowherd_tasks", "Tasks that are remembered, by state.", ("status",), _keyed(found.tasks))
    yield _gauge("cowherd_uploads", "Uploads under way or waiting, by kind.", ("kind",), _keyed(found.uploads))
    yield _gauge(
        "cowherd_blobs",
        "Contents in a store, by their state there.",
        ("store", "state"),
        {tuple(place): count for place, count in found.places.items()},
    )
    yield _gauge("cowherd_named_bytes", "What all images have in sum.", (), {(): found.named})
    yield _gauge("cowherd_stored_bytes", "What their contents have, each counted once.", (), {(): found.stored})
    verified: _Values = {(store,): moment.timestamp() if moment else 0.0 for store, moment in found.least_verified.items()}
    about = "When the content was verified that was verified the longest ago, in seconds since 1970; 0 if never."
    yield _gauge("cowherd_least_verified_timestamp_seconds", about, ("store",), verified)


def _of_stores(call: Call) -> Iterator[Metric]:
    free: _Values = {}
    for name, store in call.service.stores.items():
        try:
            free[name,] = store.free_bytes()
        except HostFileError:  # a store without a figure is one that can't be asked: there is an alarm for absent figures
            continue
    yield _gauge("cowherd_store_free_bytes", "What a store has room for.", ("store",), free)


def _keyed(counts: Mapping[str, int]) -> _Values:
    return {(name,): count for name, count in counts.items()}


def _gauge(name: str, about: str, labels: Sequence[str], values: _Values) -> Metric:
    from prometheus_client.metrics_core import GaugeMetricFamily

    metric = GaugeMetricFamily(name, about, labels=labels)
    for words, value in values.items():
        metric.add_metric(words, value)
    return metric


ROUTES: list[Route] = [resource(PATH, GET=show)]
