"""HTTP on one connection: uvicorn's protocol, with bounds for what a client may send, and files sent without a copy.

The ASGI extension `http.response.zerocopysend` is offered to the application: the kernel moves a file's bytes into the socket, so
that they never pass through Python. After an answer that came before the end of the request's body, a bounded rest of the body is
read and dropped: a client that reads only when it has sent all still finds the answer.
"""

from __future__ import annotations

import asyncio
import errno
import inspect
from collections import deque
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from cowherd.service.intake.hashing import SMALL_BLOCK_BYTES
from cowherd.service.web.serving.body import LongBody

if TYPE_CHECKING:
    from uvicorn.config import Config

    from cowherd.storage.hostfile import Buffer

ZERO_COPY = "http.response.zerocopysend"
"""The ASGI extension, and the type of its message: `file` (binary, nobody else's), `offset`, `count`, `more_body`."""
MOST_HEAD_BYTES = 64 << 10
"""The most that a request's line and headers may take together."""
MOST_WAITING_BYTES = SMALL_BLOCK_BYTES // 2
"""The most of a body that waits for the application before no more is read."""
MOST_DRAINED_BYTES = 16 << 20
"""The most that is read of a request's body after its answer was given."""
SILENCE_SECONDS = 60.0
"""How long the head of a request may take, and the rest of a body after its answer."""


class Cycle(RequestResponseCycle):
    """One request and its answer, the body of which may be made of files."""

    never_asked = False
    """Whether the client waits for `100 Continue` that it never got, so that nobody knows whether a body comes."""
    parts: deque[Buffer]
    """What came of the body and was not taken yet. Uvicorn appends to one array, which copies each byte twice more."""
    waiting = 0
    """Bytes in `parts`."""

    def take(self, body: Buffer) -> None:
        """Keeps a part of the body for `receive`; stops the reading while much of it waits."""
        self.parts.append(body)
        self.waiting += len(body)
        if self.waiting > MOST_WAITING_BYTES:
            self.flow.pause_reading()
        self.message_event.set()

    async def receive(self) -> Any:
        """Gives the application what came of the body since it last asked; that the client is gone it tells after that."""
        message: Any = await super().receive()
        if self.parts and message["type"] == "http.disconnect" and not self.response_complete:
            message = {"type": "http.request", "body": b"", "more_body": self.more_body}
        if self.parts and message["type"] == "http.request":
            message["body"] = self._next_part()
            if self.parts:
                message["more_body"] = True
                self.message_event.set()
        return message

    def _next_part(self) -> Buffer:
        """Takes a whole block, or else all that comes before the next one."""
        taken = [self.parts.popleft()]
        while self.parts and len(taken[-1]) < SMALL_BLOCK_BYTES and len(self.parts[0]) < SMALL_BLOCK_BYTES:
            taken.append(self.parts.popleft())
        part = taken[0] if len(taken) == 1 else b"".join(taken)
        self.waiting -= len(part)
        return part

    async def send(self, message: Any) -> None:
        """Sends one message of the application."""
        if message["type"] == ZERO_COPY:
            await self._send_file(message)
            if message.get("more_body", False):
                return
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        elif message["type"] == "http.response.start":
            self.never_asked = self.waiting_for_100_continue
        await super().send(message)

    async def _send_file(self, message: dict[str, Any]) -> None:
        count = message["count"]
        if not self.response_started or self.chunked_encoding or count > self.expected_content_length:
            raise RuntimeError("a file is sent only as part of a body whose length was stated")
        if self.disconnected or self.transport.is_closing():
            return
        loop = asyncio.get_running_loop()
        # Where the kernel can't send at once, since the client is gone for instance, asyncio reads from where the file stands.
        message["file"].seek(message["offset"])
        try:
            sent = await loop.sendfile(self.transport, message["file"], message["offset"], count)
        except ConnectionError:
            # Reading was paused while the kernel sent, so only now it is known that the client is gone.
            self.disconnected = True
            self.transport.abort()
            return
        self.expected_content_length -= sent
        if sent != count:
            raise OSError(errno.EIO, f"a file ended after {sent} of {count} bytes that were to be sent")


class Protocol(HttpToolsProtocol):
    """A connection. Bounds the head of each request and what follows an early answer; offers `ZERO_COPY` without TLS."""

    def __init__(
        self, config: Config, server_state: Any, app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop | None = None
    ):
        super().__init__(config, server_state, app_state, _loop)
        self._in_head = True
        self._head_bytes = 0
        self._ended_a_message = False
        self._drained_bytes = 0
        self._refused = False
        self._body_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        """Begins to wait for the first request."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells the application that the client is gone."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses what came."""
        if self._refused:
            return
        self._ended_a_message = False
        super().data_received(data)
        self._receive_in_blocks()
        if self._in_head and not self._ended_a_message and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self._refuse(431)
            elif not self._timer and self._idle():
                self._start_timer()

    def on_message_begin(self) -> None:
        """Starts a request."""
        super().on_message_begin()
        self._head_bytes = self._body_bytes = 0

    def on_headers_complete(self) -> None:
        """Gives the request to the application, unless its head is too large."""
        self._in_head = False
        self._stop_timer()
        if len(self.url) > MOST_HEAD_BYTES:
            self._refuse(414)
        elif sum(len(name) + len(value) for name, value in self.headers) > MOST_HEAD_BYTES:
            self._refuse(431)
        else:
            super().on_headers_complete()
            # Uvicorn makes the cycle itself, and its task has not begun to run yet.
            self.cycle.__class__ = Cycle
            self.cycle.parts = deque()  # type: ignore[attr-defined]  # of a `Cycle`
            if self.scheme == "http":  # the kernel would send a file's bytes past the encryption
                self.scope["extensions"] = {ZERO_COPY: {}}

    def on_body(self, body: Buffer) -> None:
        """Takes a part of the body, or drops it after the answer."""
        if self._refused:
            return
        self._unset_keepalive_if_required()
        self._body_bytes += len(body)
        if isinstance(self.cycle, Cycle) and not self.cycle.response_complete and not self.parser.should_upgrade():
            self.cycle.take(body)
        else:
            super().on_body(bytes(body))
        if self.cycle.response_complete:
            self._drained_bytes += len(body)
            if self._drained_bytes > MOST_DRAINED_BYTES:
                self.transport.close()

    def on_message_complete(self) -> None:
        """Notes the end of the request."""
        if self._refused:
            return
        super().on_message_complete()
        self._in_head, self._head_bytes, self._ended_a_message = True, 0, True
        self._stop_timer()
        if self.cycle.response_complete:  # now the client may send its next request
            self._start_timer()

    def end_body(self) -> None:
        """Takes the connection back after a body that was received in blocks."""
        self.transport.set_protocol(self)
        self.parser = new_parser(self)  # the one before still waits for the body
        self.on_message_complete()

    def _receive_in_blocks(self) -> None:
        """Lets the rest of the body come in blocks if it is long, of a stated length, and wanted."""
        cycle = self._last_cycle()
        if self._in_head or self._refused or self.transport.is_closing() or not isinstance(cycle, Cycle):
            return
        length = stated_bytes(self.headers)
        if length - self._body_bytes >= SMALL_BLOCK_BYTES and not cycle.response_complete and not self.parser.should_upgrade():
            self.transport.set_protocol(LongBody(self, self.loop, length, self._body_bytes))

    def on_response_complete(self) -> None:
        """Goes on to the next request, or drops the rest of the body of this one."""
        cycle = self.cycle
        if cycle.response_complete and cycle.more_body:
            self._drained_bytes = cycle.waiting if isinstance(cycle, Cycle) else len(cycle.body)
            if isinstance(cycle, Cycle) and cycle.never_asked:
                self.transport.close()
            else:
                self._start_timer()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP, if that can't be taken for a part of another answer."""
        if self._idle():
            super().send_400_response(msg)
        else:
            self.transport.close()

    def _idle(self) -> bool:
        """Whether bytes that are written now would not come into the middle of an answer."""
        cycle = self._last_cycle()
        return cycle is None or cycle.response_complete or not cycle.response_started

    def _last_cycle(self) -> RequestResponseCycle | None:
        return self.cycle  # None before the first request, which uvicorn's annotation leaves out

    def _refuse(self, status: int) -> None:
        self._refused = True
        if self._idle():
            self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(SILENCE_SECONDS, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None


def stated_bytes(headers: list[tuple[bytes, bytes]]) -> int:
    """Returns the length that a request states for its body; 0 if it states none, or its body comes in chunks."""
    stated = {value for name, value in headers if name == b"content-length"}
    chunked = any(name == b"transfer-encoding" for name, _ in headers)
    return 0 if chunked or len(stated) != 1 else int(stated.pop())


def new_parser(protocol: Protocol) -> httptools.HttpRequestParser:
    """Returns a parser of requests as uvicorn makes it."""
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def protocol_class() -> type[HttpToolsProtocol]:
    """Returns `Protocol`, or uvicorn's own where the installed one is built otherwise: then no file is sent without a copy."""
    fields = inspect.signature(RequestResponseCycle.__init__).parameters.keys()
    hooks = ("on_message_begin", "on_headers_complete", "on_body", "on_message_complete", "on_response_complete")
    needed = {"scope", "transport", "flow", "message_event", "expect_100_continue", "keep_alive", "on_response"}
    fits = needed <= fields and all(hasattr(HttpToolsProtocol, hook) for hook in hooks)
    return Protocol if fits else HttpToolsProtocol
