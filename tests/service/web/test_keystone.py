"""Callers known by the identity service, which here is a small server of the test's own."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler

import pytest

from cowherd.errors import InvalidRequest
from cowherd.service.tasks.regions import RegionUnknown
from cowherd.service.web import keystone
from cowherd.service.web.errors import Unauthorized, Unavailable
from cowherd.service.web.keystone import KeystoneAuth
from tests.service.web.webserver import answering


def token(project="p", roles=("Member",), minutes=60, **more):
    ends = datetime.now(UTC) + timedelta(minutes=minutes)
    scope = {"project": {"id": project, "name": "n"}} if project else {"system": {"all": True}}
    document = {
        "expires_at": ends.isoformat(),
        "user": {"id": "u", "name": "n"},
        "roles": [{"id": "r", "name": role} for role in roles],
    }
    return 200, json.dumps({"token": {**document, **scope, **more}}).encode()


class Identity:
    """What the server answers, and what it was asked."""

    def __init__(self):
        self.answers, self.asked, self.url = {}, [], ""


@pytest.fixture
def identity():
    """An identity service that answers as it is told."""
    told = Identity()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            told.asked.append((self.path, self.headers["X-Auth-Token"], self.headers["X-Subject-Token"]))
            status, body = told.answers.get(self.headers["X-Subject-Token"], (404, b"{}"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with answering(Handler) as server:
        told.url = f"http://127.0.0.1:{server.server_port}"
        yield told


def shown(text):
    return {"x-auth-token": text}


@pytest.mark.parametrize("path", ["", "/", "/v3", "/v3/"])
def test_a_token_is_shown_to_the_identity_service_once(identity, path):
    identity.answers["t"] = token()
    auth = KeystoneAuth(identity.url + path)
    callers = {auth.caller(shown("t")) for _ in range(3)}
    assert [(one.user, one.project, one.roles) for one in callers] == [("u", "p", frozenset({"member"}))]
    assert identity.asked == [("/v3/auth/tokens?nocatalog", "t", "t")]


def test_a_token_is_not_believed_for_ever(identity, monkeypatch):
    monkeypatch.setattr(keystone, "BELIEVED_SECONDS", 0.0)
    identity.answers["t"] = token()
    auth = KeystoneAuth(identity.url)
    auth.caller(shown("t"))
    identity.answers.clear()
    with pytest.raises(Unauthorized):
        auth.caller(shown("t"))


@pytest.mark.parametrize("headers", [{}, shown(""), shown("unknown"), shown("ü"), shown("expired")])
def test_who_shows_no_valid_token_is_led_to_the_identity_service(identity, headers):
    identity.answers["expired"] = token(minutes=-1)
    with pytest.raises(Unauthorized) as caught:
        KeystoneAuth(identity.url + "/v3").caller(headers)
    assert caught.value.headers == {"WWW-Authenticate": f'Keystone uri="{identity.url}/v3"'}


def test_a_token_of_no_project_gives_no_role(identity):
    identity.answers["t"] = token(project=None, roles=("admin",))
    caller = KeystoneAuth(identity.url).caller(shown("t"))
    assert (caller.project, caller.roles) == (None, frozenset())


@pytest.mark.parametrize(
    "answer",
    [(500, b""), (200, b""), (200, b"[]"), (200, b'{"token": {}}'), (200, b'{"token": 1}'), (302, b""), token(expires_at="soon")],
)
def test_an_answer_that_makes_no_sense_is_no_ones_fault_who_asks(identity, answer):
    identity.answers["t"] = answer
    with pytest.raises(Unavailable):
        KeystoneAuth(identity.url).caller(shown("t"))


def test_an_identity_service_that_does_not_answer_is_told(identity, monkeypatch):
    monkeypatch.setattr(keystone, "PATIENCE_SECONDS", 0.2)
    with contextlib.closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for url in (f"http://127.0.0.1:{silent.getsockname()[1]}", "http://127.0.0.1:1"):
            with pytest.raises(Unavailable):
                KeystoneAuth(url).caller(shown("t"))


@pytest.mark.parametrize("address", ["", "127.0.0.1:5000", "ftp://a/v3", "http:///v3"])
def test_an_address_that_is_none_is_told(address):
    with pytest.raises(InvalidRequest):
        KeystoneAuth(address)


def test_the_memory_of_tokens_is_bounded(identity, monkeypatch):
    monkeypatch.setattr(keystone, "_MOST_KNOWN", 2)
    for name in "abc":
        identity.answers[name] = token()
    auth = KeystoneAuth(identity.url)
    assert {auth.caller(shown(name)).project for name in "abcabc"} == {"p"}
    assert len(identity.asked) == 4


def catalog(*services):
    return 200, json.dumps({"catalog": [{"type": kind, "endpoints": list(endpoints)} for kind, endpoints in services]}).encode()


def endpoint(url, interface="public", region="north"):
    return {"url": url, "interface": interface, "region": region}


def test_the_catalog_tells_where_the_image_service_of_a_region_is(identity):
    images = (endpoint("http://inside", "internal"), endpoint("http://other", region="south"), endpoint("http://images"))
    identity.answers["t"] = catalog(("identity", [endpoint("http://identity")]), ("image", images))
    assert KeystoneAuth(identity.url).endpoint_of("t", "north", "public") == "http://images"
    assert identity.asked[0][0] == "/v3/auth/catalog"


@pytest.mark.parametrize(
    "answer", [catalog(), catalog(("image", [endpoint("http://x", region="south")])), (401, b"{}"), (200, b"?")]
)
def test_a_region_that_no_catalog_names_is_told(identity, answer):
    identity.answers["t"] = answer
    with pytest.raises(RegionUnknown, match="north"):
        KeystoneAuth(identity.url).endpoint_of("t", "north", "public")


@pytest.mark.parametrize("jump", [-86_400, 86_400])
def test_a_clock_that_jumps_keeps_no_token_longer_than_it_is_valid_and_believed(identity, monkeypatch, jump):
    identity.answers["t"] = token(minutes=60)
    auth = KeystoneAuth(identity.url)
    auth.caller(shown("t"))
    identity.answers.clear()
    waited = time.monotonic() + keystone.BELIEVED_SECONDS + 1
    monkeypatch.setattr(keystone.time, "monotonic", lambda: waited)
    monkeypatch.setattr(keystone, "datetime", _jumped(jump))
    with pytest.raises(Unauthorized):
        auth.caller(shown("t"))


def _jumped(seconds):
    class Jumped(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(seconds=seconds)

    return Jumped


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"token": ' * 50_000,
        b'{"token": {"expires_at": "9999-12-31T23:59:59-14:00", "user": {"id": 5}}}',
        b'{"token": {"expires_at": "2999-01-01T00:00:00Z", "user": {"id": "u"}, "roles": "admin"}}',
        b'{"token": {"expires_at": "2999-01-01T00:00:00Z", "user": {"id": "u"}, "roles": [{"name": null}]}}',
        b'{"token": {"expires_at": 1e400, "user": {"id": "u"}}}',
        b'{"token": {"expires_at": "2999-01-01T00:00:00Z", "user": {"id": "\\ud800"}}}',
        b'"' + b"x" * (3 << 20) + b'"',
        b"\xff\xfe",
    ],
    ids=["deep", "deep objects", "number", "text", "null", "infinite", "surrogate", "huge", "bytes"],
)
def test_an_identity_service_that_lies_is_believed_nothing(identity, body):
    identity.answers["t"] = (200, body)
    with pytest.raises(Unavailable):
        KeystoneAuth(identity.url).caller(shown("t"))


def test_a_redirect_of_the_identity_service_gets_no_token(identity, monkeypatch):
    identity.answers["t"] = (302, b"")
    with pytest.raises(Unavailable):
        KeystoneAuth(identity.url).caller(shown("t"))
    assert len(identity.asked) == 1


def test_an_answer_that_drips_is_cut_off(monkeypatch):
    monkeypatch.setattr(keystone, "PATIENCE_SECONDS", 0.5)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server, dripping(server), pytest.raises(Unavailable):
        KeystoneAuth(f"http://127.0.0.1:{server.getsockname()[1]}").caller(shown("t"))


@contextlib.contextmanager
def dripping(server, head=b"HTTP/1.1 200 OK\r\n"):
    """Answers one connection with a byte now and then, for ever."""
    over = threading.Event()

    def drip():
        with server.accept()[0] as connection, contextlib.suppress(OSError):
            connection.sendall(head)
            while not over.wait(0.05):
                connection.sendall(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    yield
    over.set()
    thread.join(30)
