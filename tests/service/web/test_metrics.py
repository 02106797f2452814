"""Figures for Prometheus."""

from __future__ import annotations

import re

import pytest
from starlette.requests import Request

from cowherd.service.web.callers import add_token
from cowherd.service.web.metrics import is_local
from tests.service.web.running import running

pytest.importorskip("prometheus_client")


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
