"""What holds for every request."""

from __future__ import annotations

import re
import socket

import pytest

from cowherd.service.web import call as call_module
from tests.service.web.serving.serving import read_all


def test_the_root_offers_the_versions_and_versions_names_them(client):
    offered, named = client.get("/"), client.get("/versions")
    assert (offered.status, named.status) == (300, 200)
    assert offered.json == named.json
    versions = named.json["versions"]
    assert [one["id"] for one in versions][:2] == ["v2.18", "v2.17"]
    assert [one["status"] for one in versions].count("CURRENT") == 1
    assert versions[0]["links"] == [{"rel": "self", "href": f"http://127.0.0.1:{client.port}/v2/"}]


@pytest.mark.parametrize(("path", "status"), [("/v1/images", 300), ("/v2.99/images", 300), ("/v2", 302), ("/v2/", 404)])
def test_an_unknown_version_is_answered_with_those_there_are(client, path, status):
    assert client.get(path).status == status


@pytest.mark.parametrize("path", ["/v2.0/images", "/v2.18/images", "//v2/images", "/v2//images"])
def test_every_minor_version_has_the_same_resources(client, path):
    assert client.get(path).json["images"] == []


def test_a_version_may_be_asked_for_by_media_type(client):
    assert client.get("/images", accept="application/vnd.openstack.images-v2.1").json["images"] == []


def test_every_answer_has_the_id_of_its_request(client):
    assert re.fullmatch(r"req-[0-9a-f-]{36}", client.get("/v2/images").headers["x-openstack-request-id"])
    assert client.get("/v2/images", x_openstack_request_id="mine").headers["x-openstack-request-id"] == "req-mine"
    assert client.get("/v2/none", x_openstack_request_id="req-a").headers["x-openstack-request-id"] == "req-a"


def test_an_id_that_is_too_long_is_refused(client):
    assert client.get("/v2/images", x_openstack_request_id="x" * 64).status == 200
    assert client.get("/v2/images", x_openstack_request_id="x" * 65).status == 431


def test_a_method_that_a_resource_does_not_have_is_told_with_those_that_it_has(client):
    answer = client.ask("DELETE", "/v2/images")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, POST")


def test_a_body_that_nobody_expects_is_refused(client):
    assert client.ask("DELETE", "/v2/images/x", {"a": 1}).status == 400


@pytest.mark.parametrize("body", [b"", b"{", b"1", b'"text"', b"\xff", b"[" * 100_000, b'{"name": "\\ud800"}'])
def test_a_body_that_is_no_document_is_refused(client, body):
    assert client.ask("POST", "/v2/images", body).status == 400


def test_a_document_that_is_too_large_is_refused(client, monkeypatch):
    monkeypatch.setattr(call_module, "MOST_DOCUMENT_BYTES", 1000)
    assert client.ask("POST", "/v2/images", b" " * 1001).status == 413
    assert client.ask("POST", "/v2/images", iter([b" " * 600, b" " * 600])).status == 413
    assert client.ask("POST", "/v2/images", b'{"name":"a"}' + b" " * 900).status == 201


def test_a_body_that_stops_coming_is_given_up(client, monkeypatch):
    monkeypatch.setattr(call_module, "SILENCE_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", client.port), timeout=30) as connection:
        connection.sendall(b"POST /v2/images HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
        assert read_all(connection).startswith(b"HTTP/1.1 408")


def test_a_query_that_is_no_utf8_is_refused(client):
    assert client.get("/v2/images?name=%ff").status == 400


def test_an_error_of_the_services_own_is_told_without_its_words(client, monkeypatch, caplog):
    monkeypatch.setattr("cowherd.service.web.images.records.page", lambda *_: 1 / 0)
    answer = client.get("/v2/images", accept="application/json")
    assert (answer.status, answer.json["title"]) == (500, "Internal Server Error")
    assert b"zero" not in answer.body
    assert "ZeroDivisionError" in caplog.text


def test_the_health_is_that_of_database_and_stores(client):
    assert client.get("/healthcheck").body == b"OK"
    assert client.get("/healthcheck", accept="application/json").json == {"detailed": False, "reasons": ["OK"]}
    assert client.ask("HEAD", "/healthcheck").status == 204


@pytest.mark.parametrize(
    "name", ["image", "images", "member", "members", "task", "tasks", "metadefs/namespace", "metadefs/objects"]
)
def test_schemas_are_given_out(client, name):
    document = client.get(f"/v2/schemas/{name}").json
    assert {"name", "properties"} <= document.keys()


def test_a_page_of_another_site_may_ask_nothing(client):
    assert client.get("/v2/images", origin="http://elsewhere.example").status == 403
    assert client.get("/v2/images", origin="null").status == 403
    assert client.get("/v2/images", origin=f"http://127.0.0.1:{client.port}").status == 200
    stranger = f"stranger.example:{client.port}"  # a name that now leads here
    assert client.get("/v2/images", origin=f"http://{stranger}", host=stranger).status == 403
