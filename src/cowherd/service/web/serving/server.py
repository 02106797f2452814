"""The server of one process: uvicorn on a socket that is open already."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any

import uvicorn

from cowherd.service.web.serving.protocol import protocol_class

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

PATIENCE_SECONDS = 30
"""How long requests may go on after the signal that ends the server."""
_ENDING = (signal.SIGTERM, signal.SIGINT)


class _Server(uvicorn.Server):
    """Tells when it answers, and returns after a signal instead of raising it again."""

    def __init__(self, config: uvicorn.Config, answers: Callable[[], None]):
        super().__init__(config)
        self._answers = answers

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._answers()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():  # where Python lets nobody handle signals
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _ENDING}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(app: Any, bound: socket.socket, answers: Callable[[], None]) -> None:
    """Answers requests on a listening socket with an ASGI application until SIGTERM or SIGINT.

    Calls `answers` once requests are answered. After the signal no new connection is taken, and requests that are under way get
    `PATIENCE_SECONDS` before they are cancelled.
    """
    make_server(app, answers).run([bound])


def make_server(app: Any, answers: Callable[[], None], patience_seconds: int = PATIENCE_SECONDS) -> uvicorn.Server:
    """Returns a server for an ASGI application that calls `answers` once it answers."""
    config = uvicorn.Config(
        app,
        http=protocol_class(),
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=patience_seconds,
    )
    return _Server(config, answers)
