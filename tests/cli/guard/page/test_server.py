"""What a browser, and who is none, gets from the server of the page."""

from __future__ import annotations

import http.client
import socket
import time

import pytest

from cowherd.cli.guard.look.page import server as serving
from cowherd.cli.guard.look.page.server import CantServe, PageServer


class Fixed:
    """A page that never changes."""

    def page(self) -> bytes:
        return b"<p>the page"

    def version(self) -> bytes:
        return b'{"version": 1}'


@pytest.fixture
def server():
    served = PageServer("127.0.0.1", 0, Fixed())
    yield served
    served.close()


def ask(server, path="/", method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())
    finally:
        connection.close()


def test_it_gives_the_page_and_its_version(server):
    assert ask(server)[:2] == (200, b"<p>the page")
    assert ask(server, "/version")[:2] == (200, b'{"version": 1}')
    status, content, headers = ask(server, method="HEAD")
    assert (status, content, headers["Content-Length"]) == (200, b"", "11")


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/%2e%2e/etc/passwd", "//etc/passwd", "/etc/passwd", "/index.html", "*", "/?a=1"]
)
def test_there_is_nothing_else(server, path):
    assert ask(server, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_can_be_done_but_reading(server, method):
    assert ask(server, method=method)[0] == 501


@pytest.mark.parametrize(
    "host",
    ["evil.example:{}", "localhost.evil.example:{}", "127.0.0.1.evil.example:{}", "127.0.0.1", "localhost:1", "", "[::1", "a:b"],
)
def test_a_page_of_a_stranger_can_not_read_it_by_a_name_of_its_own(server, host):
    status, content, _ = ask(server, Host=host.format(server.server_port))
    assert (status, b"the page" in content) == (421, False)


@pytest.mark.parametrize("host", ["127.0.0.1:{}", "localhost:{}", "LOCALHOST:{}", "[::1]:{}", "192.0.2.7:{}"])
def test_it_is_asked_for_by_an_address_or_as_localhost(server, host):
    assert ask(server, Host=host.format(server.server_port))[0] == 200


def test_two_names_are_none(server):
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
        name = f"Host: localhost:{server.server_port}\r\n"
        connection.sendall(f"GET / HTTP/1.1\r\n{name}{name}\r\n".encode())
        assert b" 421 " in connection.makefile("rb").readline()


def test_no_other_page_may_hold_show_or_read_it(server):
    headers = ask(server)[2]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "connect-src 'self'" in headers["Content-Security-Policy"]
    assert (headers["X-Content-Type-Options"], headers["Cross-Origin-Resource-Policy"]) == ("nosniff", "same-origin")
    assert "Access-Control-Allow-Origin" not in headers
    assert "Python" not in headers["Server"]


def test_it_listens_where_it_is_told_and_nowhere_else(server):
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_an_error_that_says_so(server):
    with pytest.raises(
        CantServe, match=rf"127\.0\.0\.1:{server.server_port}: Address already in use; --serve takes another port"
    ):
        PageServer("127.0.0.1", server.server_port, Fixed())


def test_who_says_nothing_holds_no_place_for_long(monkeypatch):
    monkeypatch.setattr(serving, "MOST_AT_ONCE", 2)
    monkeypatch.setattr(serving, "LONGEST_SECONDS", 3.0)
    server = PageServer("127.0.0.1", 0, Fixed())
    silent = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(2)]
    try:
        for connection in silent:
            connection.sendall(b"GET / HT")
        with pytest.raises((http.client.BadStatusLine, ConnectionError)):
            ask(server)
        time.sleep(4)
        assert ask(server)[0] == 200
    finally:
        for connection in silent:
            connection.close()
        server.close()
