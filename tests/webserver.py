"""A web server on this host's loopback that gives out bytes, as well or as badly as a test wants it to."""

from __future__ import annotations

import contextlib
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cowherd.urls import Url


@dataclass(frozen=True)
class Asked:
    """One request: what for, which bytes (half-open, None for all), with which headers, and from which port."""

    target: str
    start: int
    end: int | None
    headers: dict[str, str]
    client: int

    @property
    def length(self) -> int:
        assert self.end is not None
        return self.end - self.start


Answer = Callable[["Handler", Asked], None]


class Handler(BaseHTTPRequestHandler):
    """Answers GET by what `WebServer.answer` is."""

    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = 30

    def do_GET(self) -> None:
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, end = (int(found[1]), int(found[2]) + 1) if found else (0, None)
        asked = Asked(self.path, start, end, dict(self.headers), self.client_address[1])
        self.server.owner.requests.append(asked)
        with contextlib.suppress(ConnectionError):
            self.server.owner.answer(self, asked)

    def do_HEAD(self) -> None:
        """QEMU asks for the length in this way."""
        self.wfile = _NoBody(self.wfile)
        self.server.owner.answer(self, Asked(self.path, 0, None, {}, 0))

    def send(self, status: int, body: bytes = b"", **headers: object) -> None:
        """Sends an answer; `Content_Length=None` leaves that header out, as for any other."""
        self.send_response(status)
        for name, value in ({"Content_Length": len(body)} | headers).items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def send_range(self, content: bytes, asked: Asked, **headers: object) -> None:
        """Sends a part of `content` as it should be done; `headers` go before those that would be right."""
        if asked.end is None:
            self.send(200, content, **headers)
        elif asked.start >= len(content):
            self.send(416, Content_Range=f"bytes */{len(content)}")
        else:
            end = min(asked.end, len(content))
            right = {"Content_Range": f"bytes {asked.start}-{end - 1}/{len(content)}", "ETag": '"one"'}
            self.send(206, content[asked.start : end], **(right | headers))

    def log_message(self, *_: object) -> None:
        pass


class _NoBody:
    """Sends what stands before an answer's body."""

    def __init__(self, wrapped: object):
        self._wrapped = wrapped

    def write(self, data: bytes) -> None:
        self._wrapped.write(data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if data.startswith(b"HTTP/") else b"")

    def __getattr__(self, name: str) -> object:
        return getattr(self._wrapped, name)


class _Server(ThreadingHTTPServer):
    owner: WebServer
    daemon_threads = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that ends a connection, or does not trust a certificate, is no error of the server."""


class WebServer:
    """Gives out `content`. Attributes: `requests`, all that came; `answer`, to be replaced; `ended`, set at the test's end."""

    def __init__(self, content: bytes, certificate: Path | None = None):
        self.content = content
        self.requests: list[Asked] = []
        self.answer: Answer = lambda handler, asked: handler.send_range(self.content, asked)
        self.ended = threading.Event()
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.owner = self
        self._scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self._scheme = "https"

    @property
    def address(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}/image"

    @property
    def url(self) -> Url:
        return Url(self.address)

    @contextlib.contextmanager
    def running(self) -> Iterator[WebServer]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield self
        finally:
            self.ended.set()
            self._server.shutdown()
            thread.join()
            self._server.server_close()


def serving(content: bytes, certificate: Path | None = None) -> contextlib.AbstractContextManager[WebServer]:
    """Runs a server until the block ends."""
    return WebServer(content, certificate).running()
