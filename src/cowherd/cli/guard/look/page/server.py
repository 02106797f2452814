"""Serves one page over HTTP to browsers. It knows no files, changes nothing, and gives no request much of its time."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from cowherd.cli.guard.look.page.document import policy
from cowherd.errors import CowherdError
from cowherd.pages.hosts import is_own_name
from cowherd.pages.style import headers_of

if TYPE_CHECKING:
    from typing import Any

MOST_AT_ONCE = 32
LONGEST_SECONDS = 30.0
_SILENT_SECONDS = 10.0
_HTTP = 80


class CantServe(CowherdError):
    """The page can't be served at an address. Attributes: `where`, `problem`."""

    def __init__(self, where: str, problem: str):
        self.where, self.problem = where, problem

    def __str__(self) -> str:
        return f"the page can't be served at {self.where}: {self.problem}; --serve takes another port"


class Source(Protocol):
    """What is served; its methods are called by many threads and don't wait."""

    def page(self) -> bytes:
        """Returns the page, as HTML in UTF-8."""

    def version(self) -> bytes:
        """Returns what the script of the page asks for, as JSON."""


class PageServer(ThreadingHTTPServer):
    """Serves `source` at an IP address; port 0 takes a free one. Raises `CantServe`.

    More than `MOST_AT_ONCE` requests at a time are turned away, and one that takes `LONGEST_SECONDS` is cut off.
    """

    daemon_threads = True

    def __init__(self, address: str, port: int, source: Source):
        self.source = source
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._room = threading.BoundedSemaphore(MOST_AT_ONCE)
        host = f"[{address}]" if ":" in address else address
        try:
            super().__init__((address, port), _Handler)
        except OSError as error:
            raise CantServe(f"{host}:{port}", error.strerror or str(error)) from error
        self.url = f"http://{host}:{self.server_port}/"
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()

    def server_bind(self) -> None:
        """Binds without asking a name server for this host's name, as the parent does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def close(self) -> None:
        """Ends the server; answers that are under way may be cut off."""
        self.shutdown()
        self.server_close()
        self._thread.join(1)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answers a request in a thread of its own, if there is room."""
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answers a request, within bounds of time."""
        limit = threading.Timer(LONGEST_SECONDS, _cut_off, (request,))
        limit.daemon = True
        limit.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            limit.cancel()
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a browser that went away in the middle; reports other errors as the parent does."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _cut_off(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has ended meanwhile
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    timeout = _SILENT_SECONDS
    server_version, sys_version = "cowherd", ""

    def do_GET(self) -> None:
        """Answers with the page, or with its version."""
        found = {"/": ("text/html", self.server.source.page), "/version": ("application/json", self.server.source.version)}
        if not self._is_meant():
            self._answer(HTTPStatus.MISDIRECTED_REQUEST, "text/plain", b"this server is asked for by its address\n")
        elif self.path in found:
            kind, content = found[self.path]
            self._answer(HTTPStatus.OK, kind, content())
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"there is one page here, /\n")

    def do_HEAD(self) -> None:
        """Answers as `do_GET` does, without the content."""
        self.do_GET()

    def _answer(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(content)),
            **headers_of(policy(live=True)),
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _is_meant(self) -> bool:
        """Returns whether a request names this server, and not a stranger's name that leads to it: see `is_own_name`."""
        named = self.headers.get_all("Host", [])
        if len(named) != 1:
            return False
        try:
            place = urlsplit(f"//{named[0]}")
            name, port = place.hostname or "", place.port or _HTTP
        except ValueError:
            return False
        return port == self.server.server_port and is_own_name(name)

    def log_message(self, *_: object) -> None:
        """Says nothing of requests."""
