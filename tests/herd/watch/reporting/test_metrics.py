"""Metrics over HTTP, and who may read them."""

from __future__ import annotations

import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cowherd.errors import InvalidRequest
from cowherd.herd.watch.reporting.metrics import BaseFigures, Figures, Metrics, MetricsUnavailable
from tests.herd.watch.reporting.events import event


@pytest.fixture
def metrics():
    served = Metrics("0")
    served.show(
        Figures(
            bases=(
                BaseFigures(Path('/srv/"quoted"\n.qcow2'), fine=False, drift_blocks=3, dependents=2, writes=9, verified=None),
                BaseFigures(Path("/srv/b"), fine=True, drift_blocks=0, dependents=1, writes=0, verified=1.5e9),
            ),
            bytes_read=77,
            rate=1000,
            hook_runs=4,
        )
    )
    served.report(event())
    yield served
    served.close()


def scraped(metrics: Metrics) -> str:
    with urllib.request.urlopen(f"http://{metrics.address}:{metrics.port}/metrics", timeout=10) as answer:
        return answer.read().decode()


def samples(text: str) -> dict[tuple[str, str], float]:
    families = text_string_to_metric_families(text)
    found = (sample for family in families for sample in family.samples)
    return {(sample.name, "".join(sample.labels.values())): sample.value for sample in found}


def test_the_figures_are_served_as_prometheus_reads_them(metrics):
    found = samples(scraped(metrics))
    assert found["cowherd_base_drift_blocks", '/srv/"quoted"\\x0a.qcow2'] == 3
    assert found["cowherd_base_fine", "/srv/b"] == 1
    assert found["cowherd_base_verified_timestamp_seconds", "/srv/b"] == 1.5e9
    assert found["cowherd_watched_bases", ""] == 2
    assert found["cowherd_verify_read_bytes_total", ""] == 77
    assert found["cowherd_hook_runs_total", ""] == 4
    assert found["cowherd_events_total", "written"] == 1


def test_what_was_never_verified_has_no_time(metrics):
    assert ("cowherd_base_verified_timestamp_seconds", '/srv/"quoted"\\x0a.qcow2') not in samples(scraped(metrics))


def test_prometheus_own_tool_finds_nothing_to_complain_of(metrics):
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run(["promtool", "check", "metrics"], input=scraped(metrics), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("where", ["0.0.0.0:0", "[::]:0", "192.0.2.1:9000"])
def test_an_address_that_others_can_reach_is_refused(where):
    with pytest.raises(InvalidRequest, match="others could read it"):
        Metrics(where)


def test_unless_that_is_wanted():
    served = Metrics("0.0.0.0:0", anywhere=True)
    served.close()
    assert served.address == "0.0.0.0"


@pytest.mark.parametrize("where", ["127.0.0.1:0", "localhost:0", "127.1.2.3:0", ":0"])
def test_loopback_addresses_are_not(where):
    served = Metrics(where)
    served.close()
    assert served.port > 0


@pytest.mark.parametrize("where", ["", "port", "127.0.0.1", "127.0.0.1:", "1:2:3", "127.0.0.1:65536", "host:80", "-1"])
def test_what_is_no_address_is_refused(where):
    with pytest.raises(InvalidRequest):
        Metrics(where)


def test_a_port_that_is_taken_is_told(metrics):
    with pytest.raises(MetricsUnavailable, match="in use"):
        Metrics(f"127.0.0.1:{metrics.port}")
