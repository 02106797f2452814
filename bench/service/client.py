"""A client that costs little itself: files go out by sendfile, and what comes is dropped or kept as it is."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.measure import BenchmarkFailed

_RECEIVED = bytearray(4 << 20)
_SECONDS = 600


class Client:
    """Asks the service at a port of the loopback."""

    def __init__(self, port: int):
        self.port = port

    @contextlib.contextmanager
    def connected(self) -> Iterator[http.client.HTTPConnection]:
        """Gives a connection that is kept for several requests."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=_SECONDS)) as connection:
            yield connection

    def ask(
        self, method: str, path: str, document: Any = None, *, on: http.client.HTTPConnection | None = None, good: int = 2
    ) -> Any:
        """Sends a request; returns the JSON of its answer. Raises `BenchmarkFailed` if its status is not of the class `good`."""
        with contextlib.nullcontext(on) if on else self.connected() as connection:
            body = None if document is None else json.dumps(document).encode()
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            content = answer.read()
        if answer.status // 100 != good:
            raise BenchmarkFailed(f"{method} {path}: {answer.status} {content[:300]!a}")
        return json.loads(content) if content else None

    def create(self, **more: Any) -> str:
        """Makes an image without content; returns its id."""
        image = {"disk_format": "raw", "container_format": "bare", "visibility": "public", **more}
        return str(self.ask("POST", "/v2/images", image)["id"])

    def put(self, image: str, path: Path) -> None:
        """Uploads a file as the content of an image. Raises `BenchmarkFailed`."""
        length = path.stat().st_size
        with path.open("rb") as file, socket.create_connection(("127.0.0.1", self.port), timeout=_SECONDS) as connection:
            connection.sendall(
                f"PUT /v2/images/{image}/file HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n"
                f"Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n".encode()
            )
            connection.sendfile(file)
            answer = connection.recv(4096)
        if b" 204 " not in answer[:20]:
            raise BenchmarkFailed(f"the upload of {length} bytes got {answer[:300]!a}")

    def get(self, image: str, wanted: str = "") -> int:
        """Downloads the content of an image, or the bytes of it that are `wanted` ("0-99"); returns how many bytes came."""
        with self.begun(image, wanted) as connection:
            total = 0
            while count := connection.recv_into(_RECEIVED):
                total += count
        return total

    @contextlib.contextmanager
    def begun(self, image: str, wanted: str = "", window: int | None = None) -> Iterator[socket.socket]:
        """Gives a connection on which a download was asked for; `window` bounds what the host takes without being read."""
        with socket.socket() as connection:
            if window:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
            connection.settimeout(_SECONDS)
            connection.connect(("127.0.0.1", self.port))
            ranges = f"Range: bytes={wanted}\r\n" if wanted else ""
            connection.sendall(
                f"GET /v2/images/{image}/file HTTP/1.1\r\nHost: bench\r\n{ranges}Connection: close\r\n\r\n".encode()
            )
            yield connection
