"""Which service is meant, and who asks."""

from __future__ import annotations

import contextlib
import http.server
import json
import sys
import threading

import pytest

from cowherd.client.faults import NoService, ServiceRefused, ServiceUnreachable
from cowherd.client.finding import find_service
from cowherd.errors import InvalidRequest

PASSWORD = {
    "OS_USERNAME": "ann",
    "OS_PASSWORD": "secret",
    "OS_PROJECT_NAME": "herd",
    "OS_USER_DOMAIN_NAME": "users",
    "OS_PROJECT_DOMAIN_ID": "projects",
}


class Identity(http.server.BaseHTTPRequestHandler):
    """Gives everybody a token, and serves images at /image to who shows it."""

    def do_POST(self):
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["auth"])
        where = f"http://127.0.0.1:{self.server.server_port}/image"
        endpoints = [
            {"interface": "internal", "region": "one", "url": f"{where}/internal"},
            {"interface": "public", "region": "two", "url": f"{where}/two/v2"},
            {"interface": "public", "region": "one", "url": f"{where}/v2/"},
        ]
        catalog = [{"type": "compute", "endpoints": endpoints[:1]}, {"type": "image", "endpoints": endpoints}]
        self._answer(201 if self.path == "/identity/v3/auth/tokens" else 404, {"token": {"catalog": catalog}})

    def do_GET(self):
        good = self.headers["X-Auth-Token"] == "token of ann"
        self._answer(200 if good else 401, {"images": [{"id": self.path}]} if good else {"error": {"message": "who?"}})

    def _answer(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("X-Subject-Token", "token of ann")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def identity(monkeypatch, tmp_path):
    """Keystone, as far as it is asked, and no openstacksdk."""
    monkeypatch.setitem(sys.modules, "openstack", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "openstack" else name)
    monkeypatch.chdir(tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Identity) as server:
        server.asked = []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with contextlib.ExitStack() as stack:
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            yield server


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://host:9292/", "http://host:9292"),
        ("host:9292", "http://host:9292"),
        ("/run/service.sock", "unix:/run/service.sock"),
        ("unix:/run/service.sock", "unix:/run/service.sock"),
    ],
)
def test_a_service_is_named_by_an_address(text, address):
    assert find_service(text, {}).address == address
    assert find_service(None, {"COWHERD_SERVICE": text}).address == address


def test_nothing_named_says_how_to_name_it():
    with pytest.raises(NoService, match="--to URL, COWHERD_SERVICE"):
        find_service(None, {})
    with pytest.raises(InvalidRequest):
        find_service("ftp://host", {})


def test_a_service_that_is_not_there_does_not_answer():
    with pytest.raises(ServiceUnreachable, match=r"127\.0\.0\.1:1 does not answer"):
        list(find_service("127.0.0.1:1", {}).images())
    with pytest.raises(ServiceUnreachable):
        list(find_service("/no/such/socket", {}).images())


def test_a_token_that_is_given_is_shown(identity):
    environment = {"OS_TOKEN": "token of ann"}
    assert list(find_service(identity.url + "/image", environment).images()) == [{"id": "/image/v2/images?limit=200"}]
    with pytest.raises(ServiceRefused, match=r"401.*who\?"):
        list(find_service(identity.url, {"OS_TOKEN": "another"}).images())


def test_a_password_leads_to_a_token_and_to_the_service(identity):
    environment = {**PASSWORD, "OS_AUTH_URL": identity.url + "/identity", "OS_REGION_NAME": "one"}
    service = find_service(None, environment)
    assert service.address == identity.url + "/image"
    assert next(iter(service.images()))["id"].startswith("/image/v2/images")
    user = {"name": "ann", "domain": {"name": "users"}, "password": "secret"}
    assert identity.asked == [
        {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": "herd", "domain": {"id": "projects"}}},
        }
    ]


def test_a_named_service_is_asked_first_and_gets_a_token_only_if_it_wants_one(identity):
    environment = {**PASSWORD, "OS_AUTH_URL": identity.url + "/identity/v3"}
    service = find_service(identity.url, environment)
    assert identity.asked == []
    assert len(list(service.images())) == 1
    assert len(list(service.images())) == 1
    assert len(identity.asked) == 1


def test_an_application_credential_and_a_token_are_shown_as_keystone_wants_them(identity):
    where = {"OS_AUTH_URL": identity.url + "/identity"}
    secret = {"OS_APPLICATION_CREDENTIAL_ID": "ac", "OS_APPLICATION_CREDENTIAL_SECRET": "s"}
    find_service(None, {**where, **secret})
    find_service(None, {**where, "OS_TOKEN": "t", "OS_PROJECT_ID": "p"})
    assert identity.asked == [
        {"identity": {"methods": ["application_credential"], "application_credential": {"secret": "s", "id": "ac"}}},
        {"identity": {"methods": ["token"], "token": {"id": "t"}}, "scope": {"project": {"id": "p"}}},
    ]
    with pytest.raises(NoService, match="credentials"):
        find_service(None, where)
    with pytest.raises(NoService, match="region three"):
        find_service(None, {**where, **PASSWORD, "OS_REGION_NAME": "three"})


def test_a_cloud_of_a_file_is_found_with_its_secrets(identity, tmp_path):
    pytest.importorskip("yaml", reason="pip install PyYAML")
    cloud = f"clouds:\n  mine:\n    region_name: two\n    auth: {{auth_url: '{identity.url}/identity', username: ann}}\n"
    (tmp_path / "clouds.yaml").write_text(cloud)
    (tmp_path / "secure.yaml").write_text("clouds: {mine: {auth: {password: hidden}}}\n")
    assert find_service(None, {"OS_CLOUD": "mine"}).address == identity.url + "/image/two"
    assert identity.asked[0]["identity"]["password"]["user"]["password"] == "hidden"
    with pytest.raises(NoService, match="a cloud 'other'"):
        find_service(None, {"OS_CLOUD": "other"})
    (tmp_path / "clouds.yaml").write_text("{")
    with pytest.raises(NoService, match="can't be read"):
        find_service(None, {"OS_CLOUD": "mine"})


def test_an_endpoint_can_be_given_with_its_token():
    environment = {"OS_AUTH_TYPE": "none", "OS_ENDPOINT": "http://host:9292/v2/"}
    assert find_service(None, environment).address == "http://host:9292"
