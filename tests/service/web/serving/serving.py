"""Serves an ASGI application on loopback, in a thread of the test."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from cowherd.service.web.serving.server import make_server


@contextlib.contextmanager
def served(app, patience_seconds: int = 2) -> Iterator[int]:
    """Gives the port on which the application answers."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen(50)
        port = bound.getsockname()[1]
        answers = threading.Event()
        server = make_server(app, answers.set, patience_seconds)
        thread = threading.Thread(target=server.run, args=([bound],))
        thread.start()
        try:
            assert answers.wait(30)
            yield port
        finally:
            server.should_exit = True
            thread.join(30)
        assert not thread.is_alive()


def ask(port: int, request: bytes) -> bytes:
    """Sends raw bytes, and returns all that comes until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    """Returns all that comes until the connection ends."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)
