"""The server of one process: uvicorn on a socket that is open already."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import uvicorn

from cowherd.service.web.serving.protocol import protocol_class

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

PATIENCE_SECONDS = 30
"""How long requests may go on after the signal that ends the server."""
_ENDING = (signal.SIGTERM, signal.SIGINT)
_TICKS_A_SECOND = 10


class Life(NamedTuple):
    """How the service lives: every so many `seconds` (never if None) it calls `tell`, until `hangup` is set, for a new one."""

    hangup: threading.Event
    seconds: float | None = None
    tell: Callable[[], None] = lambda: None


class Server(uvicorn.Server):
    """Tells when it answers, and returns after a signal instead of raising it again."""

    def __init__(self, config: uvicorn.Config, answers: Callable[[], None], life: Life):
        super().__init__(config)
        self._answers, self._life = answers, life

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second, by the loop that answers requests: as long as it runs, the service lives."""
        if self._life.seconds and counter % max(1, int(self._life.seconds * _TICKS_A_SECOND)) == 0:
            self._life.tell()
        return self._life.hangup.is_set() or await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to answer, and tells it."""
        await super().startup(sockets)
        self._answers()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ends the server at a signal, instead of the process."""
        if threading.current_thread() is not threading.main_thread():  # where Python lets nobody handle signals
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _ENDING}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(app: Any, bound: socket.socket, answers: Callable[[], None], life: Life) -> bool:
    """Answers requests on a listening socket with an ASGI application until SIGTERM, SIGINT or `life.hangup`.

    Returns whether it was the last one: the caller serves again then, and clients that knock meanwhile wait.

    Calls `answers` once requests are answered. After the signal no new connection is taken, and requests that are under way get
    `PATIENCE_SECONDS` before they are cancelled.
    """
    server = make_server(app, answers, life=life)
    server.run([bound.dup()])  # which the server closes at its end
    return not server.should_exit


def make_server(
    app: Any, answers: Callable[[], None], patience_seconds: int = PATIENCE_SECONDS, life: Life | None = None
) -> Server:
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
    return Server(config, answers, life or Life(threading.Event()))
