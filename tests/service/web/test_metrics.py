"""Figures for Prometheus."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from starlette.requests import Request

from cowherd.service import counting
from cowherd.service.records.database import Database
from cowherd.service.records.faults import DatabaseUnavailable
from cowherd.service.web.callers import add_token
from cowherd.service.web.measuring import kind_of
from cowherd.service.web.metrics import is_local
from tests.service.web.running import Client, running

parser = pytest.importorskip("prometheus_client.parser")
ROOT = Path(__file__).parents[3]


@pytest.fixture
def counted(client, monkeypatch):
    """A client of a service that has counted nothing yet."""
    monkeypatch.setattr(counting, "_rows", counting.Rows(1))
    return client


def figure(text, name):
    """Returns the value of a figure with its labels."""
    return float(re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)[1])


def test_the_figures_tell_what_there_is(tmp_path):
    with running(tmp_path) as client:
        for _ in range(2):
            image = client.create(disk_format="raw", container_format="bare")["id"]
            client.ask("PUT", f"/v2/images/{image}/file", b"content", content_type="application/octet-stream")
        client.create()
        answer = client.get("/metrics")
    text = answer.body.decode()
    assert answer.headers["content-type"].startswith("text/plain")
    assert figure(text, 'cowherd_images{status="active"}') == 2
    assert figure(text, 'cowherd_images{status="queued"}') == 1
    assert figure(text, 'cowherd_blobs{state="whole",store="default"}') == 1
    assert (figure(text, "cowherd_named_bytes"), figure(text, "cowherd_stored_bytes")) == (14, 7)
    assert figure(text, 'cowherd_least_verified_timestamp_seconds{store="default"}') > 1e9
    assert figure(text, 'cowherd_store_free_bytes{store="default"}') > 0


def samples(client: Client) -> dict[tuple[str, ...], float]:
    """Returns all figures, each by its name and the values of its labels, as Prometheus reads them."""
    families = list(parser.text_string_to_metric_families(client.get("/metrics").body.decode()))
    assert all(family.documentation.endswith(".") for family in families)
    assert len({family.name for family in families}) == len(families)
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def upload(client, data, disk_format="raw"):
    image = client.create(disk_format=disk_format, container_format="bare")["id"]
    return image, client.ask("PUT", f"/v2/images/{image}/file", data, content_type="application/octet-stream").status


def test_requests_are_counted_by_kind_with_their_bytes_and_their_time(counted):
    image, _ = upload(counted, b"content")
    counted.get(f"/v2/images/{image}/file")
    counted.get("/v2/images")
    counted.get("/v2/nothing")
    found = samples(counted)
    for kind, status in (("upload", "2xx"), ("download", "2xx"), ("list", "2xx"), ("image", "2xx"), ("other", "4xx")):
        assert found["cowherd_requests_total", kind, status] == 1
    assert found["cowherd_received_bytes_total", "upload"] == found["cowherd_sent_bytes_total", "download"] == 7
    assert found["cowherd_request_seconds_count", "list"] == found["cowherd_request_seconds_bucket", "list", "+Inf"] == 1
    assert 0 < found["cowherd_request_seconds_sum", "list"] < 60
    assert found["cowherd_requests_under_way", "other"] == 1  # this one


def test_what_is_refused_is_counted_once_by_its_check(counted):
    assert upload(counted, b"QFI\xfb" + bytes(2000), "qcow2")[1] == 415
    assert upload(counted, b"x" * 1000, "qcow2")[1] == 415
    refused = {labels[1]: value for labels, value in samples(counted).items() if labels[0] == "cowherd_refused_total"}
    assert refused.pop("format") == 1
    assert list(refused.values()) == [1]


def test_how_long_the_database_was_waited_for_is_told(counted):
    counted.create()
    found = samples(counted)
    for kind in ("read", "write"):
        assert found["cowherd_database_wait_seconds_count", kind] > 0


def test_damage_and_its_repair_are_counted_and_what_is_overdue_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(counting, "_rows", counting.Rows(1))
    with running(tmp_path, "scrub_days=0") as client:
        image, _ = upload(client, b"content")
        found = samples(client)
        assert found["cowherd_scrub_overdue_blobs", "default"] == 1
        assert found["cowherd_scrub_lag_seconds", "default"] > 0
        for name in ("damaged", "missing"):
            assert found[f"cowherd_blobs_found_{name}_total", "default"] == 0
        assert found["cowherd_blobs_repaired_total", "default"] == 0
        [blob] = [path for path in (tmp_path / "data/store/blobs").rglob("*") if path.is_file() and not path.suffix]
        blob.chmod(0o600)
        blob.write_bytes(b"CONTENT")
        assert client.get(f"/v2/images/{image}/file").status == 503
        assert samples(client)["cowherd_blobs_found_damaged_total", "default"] == 1


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ("GET /v2/images", "list"),
        ("GET /v2.18/images/", "list"),
        ("POST /v2/images", "image"),
        ("GET /v2/images/x", "image"),
        ("PUT /v2/images/x/file", "upload"),
        ("PUT /v2/images/x/stage", "upload"),
        ("HEAD /v2/images/x/file", "download"),
        ("GET /v2/images/x/members/y", "members"),
        ("PUT /v2/images/x/tags/file", "image"),
        ("PATCH /cowherd/v1/uploads/x", "resumable"),
        ("GET /v2/tasks/x", "tasks"),
        ("GET /v2/metadefs/namespaces", "metadefs"),
        ("GET /v2/schemas/image", "other"),
        ("GET /metrics", "other"),
        ("BREW /coffee/x", "other"),
        ("GET /", "other"),
    ],
)
def test_requests_are_of_few_kinds(asked, kind):
    assert kind_of(*asked.split()) == kind


def test_a_service_whose_database_does_not_answer_is_not_well(client, monkeypatch):
    def refuse(database):
        raise DatabaseUnavailable("disk I/O error")

    monkeypatch.setattr(Database, "read", refuse)
    answer = client.get("/healthcheck")
    assert (answer.status, b"disk I/O error" in answer.body) == (503, True)


def test_a_service_without_its_store_is_not_well_and_has_figures_of_the_others(tmp_path):
    with running(tmp_path, f"stores=one={tmp_path}/one,two={tmp_path}/two") as client:
        assert client.get("/healthcheck").status == 200
        shutil.rmtree(tmp_path / "two")
        assert client.get("/healthcheck").status == 503
        found = samples(client)
        assert ("cowherd_store_free_bytes", "one") in found
        assert ("cowherd_store_free_bytes", "two") not in found


def test_the_page_for_operators_lists_all_figures_and_no_others(client):
    families = parser.text_string_to_metric_families(client.get("/metrics").body.decode())
    told = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    table = re.findall(r"^\| (`cowherd_.*?) \|", (ROOT / "docs/service.md").read_text(), re.M)
    assert told == {name for cell in table for name in re.findall(r"\w+", cell)}


def test_whoever_is_on_this_host_sees_them_without_a_token(tmp_path):
    (tmp_path / "data").mkdir()
    add_token(str(tmp_path / "data/tokens"), "somebody", "demo", ("member",))
    with running(tmp_path, "auth=tokens") as client:
        assert client.get("/metrics").status == 200
        assert client.get("/v2/images").status == 401


@pytest.mark.parametrize(
    ("client", "local"),
    [
        (None, True),
        (("", 0), True),
        (("127.0.0.1", 7), True),
        (("::1", 7), True),
        (("192.0.2.1", 7), False),
        (("2001:db8::1", 7), False),
    ],
)
def test_this_host_is_known_by_its_address(client, local):
    assert is_local(Request({"type": "http", "client": client, "headers": []})) is local
