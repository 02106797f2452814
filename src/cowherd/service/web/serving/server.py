"""The server of one process: uvicorn on a socket that is open already."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cowherd.service.web.serving.protocol import protocol_class

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

PATIENCE_SECONDS = 30
"""How long requests may go on after the signal that ends the server."""
_FIRST_SECONDS = 2.0
"""How long a connection may take after that signal to send its first request."""
_ENDING = (signal.SIGTERM, signal.SIGINT)
_TICK_SECONDS = 0.1
_TICKS_A_SECOND = 10


class Life(NamedTuple):
    """How the service says that it lives: every so many `seconds` (never if None) it calls `tell`."""

    seconds: float | None = None
    tell: Callable[[], None] = lambda: None


_SILENT = Life()


class Server(uvicorn.Server):
    """Tells when it answers, and returns after a signal instead of raising it again."""

    def __init__(self, config: uvicorn.Config, answers: Callable[[], None], life: Life):
        super().__init__(config)
        self._answers, self._life = answers, life

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second, by the loop that answers requests: as long as it runs, the service lives."""
        if self._life.seconds and counter % max(1, int(self._life.seconds * _TICKS_A_SECOND)) == 0:
            self._life.tell()
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to answer, and tells it."""
        await super().startup(sockets)
        self._answers()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Takes no new connection, gives those that were taken their answers, and ends. Others wait for the next server."""
        loop = asyncio.get_running_loop()
        for one in sockets or ():
            loop.remove_reader(one)
        await asyncio.sleep(_TICK_SECONDS)  # a connection is taken in several steps: one amid them would be dropped
        end = loop.time() + _FIRST_SECONDS
        while loop.time() < end and any(map(_never_asked, self.server_state.connections)):
            await asyncio.sleep(_TICK_SECONDS)
        await super().shutdown(sockets)

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


def _never_asked(connection: object) -> bool:
    return isinstance(connection, HttpToolsProtocol) and connection.cycle is None


def serve(app: Any, bound: socket.socket, answers: Callable[[], None], life: Life) -> None:
    """Answers requests on a listening socket with an ASGI application until SIGTERM or SIGINT.

    Calls `answers` once requests are answered. After the signal no new connection is taken, and requests that are under way get
    `PATIENCE_SECONDS` before they are cancelled.
    """
    make_server(app, answers, life=life).run([bound.dup()])  # which the server closes at its end


def make_server(app: Any, answers: Callable[[], None], patience_seconds: int = PATIENCE_SECONDS, life: Life = _SILENT) -> Server:
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
    return Server(config, answers, life)
