"""One connection to a server: HTTP of Python's standard library over a socket with a bound on every wait.

The standard library's client is enough here: requests have no body and answers come one at a time, over few connections. urllib3
and httpx wait for single reads just as it does, and none of the three bounds how long an answer may take as a whole.
"""

from __future__ import annotations

import http.client
import io
import select
import socket
import ssl
import time
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _typeshed import WriteableBuffer

SILENCE_SECONDS = 15.0
"""Longest wait for a connection, and for the next bytes of an answer."""
ANSWER_SECONDS = 120.0
"""Longest time that one answer may take from its request to its last byte, however steadily it drips."""

_BUFFERED = 64 << 10


class Origin(NamedTuple):
    """Where requests go: the scheme "http" or "https", the host and the port."""

    scheme: str
    host: str
    port: int


class Connection:
    """A connection that opens with the first request, and serves one request after the other."""

    def __init__(self, origin: Origin):
        self.origin = origin
        self._client: _Client | _TlsClient = (_TlsClient if origin.scheme == "https" else _Client)(origin)

    def get(self, target: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """Asks for `target`, path and query, and returns the answer; the caller reads its body before the next request.

        Raises OSError (TimeoutError and ssl.SSLError are kinds of it) and http.client.HTTPException. So does reading the body.
        """
        if self._client.sock is None:
            _connect(self._client)
        self._client.bounded.ends = time.monotonic() + ANSWER_SECONDS
        self._client.putrequest("GET", target, skip_accept_encoding=True)
        for name, value in headers.items():
            self._client.putheader(name, value)
        self._client.endheaders()
        return self._client.getresponse()

    @property
    def is_quiet(self) -> bool:
        """Whether it is open and nothing has come in since the last answer: neither its end nor unrequested bytes."""
        return self._client.sock is not None and self._client.bounded.is_quiet

    def close(self) -> None:
        """Closes it. Closing twice is fine."""
        self._client.close()


class _Client(http.client.HTTPConnection):
    def __init__(self, origin: Origin):
        super().__init__(origin.host, origin.port, timeout=SILENCE_SECONDS)

    def connect(self) -> None:
        super().connect()
        self.bounded = self.sock = _BoundedSocket(self.sock)


class _TlsClient(http.client.HTTPSConnection):
    def __init__(self, origin: Origin):
        super().__init__(origin.host, origin.port, timeout=SILENCE_SECONDS, context=_trusted())

    def connect(self) -> None:
        super().connect()
        self.bounded = self.sock = _BoundedSocket(self.sock)


class _BoundedSocket:
    """The socket methods that http.client uses, with a bound for the whole answer; `ends` is a time of the monotonic clock."""

    def __init__(self, wrapped: socket.socket):
        self.wrapped = wrapped
        self.ends = 0.0

    def sendall(self, data: bytes) -> None:
        self.wait_in_time()
        self.wrapped.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self), _BUFFERED)

    def close(self) -> None:
        self.wrapped.close()  # the result of `makefile` works until it is closed itself, as with any socket

    def wait_in_time(self) -> None:
        """Limits the wait of the next call on the socket to the time that is left."""
        left = self.ends - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"the answer took more than {ANSWER_SECONDS:g} seconds")
        self.wrapped.settimeout(min(SILENCE_SECONDS, left))

    @property
    def is_quiet(self) -> bool:
        poll = select.poll()
        poll.register(self.wrapped, select.POLLIN)
        return not poll.poll(0)


class _Incoming(io.RawIOBase):
    """The bytes that come in."""

    def __init__(self, origin: _BoundedSocket):
        super().__init__()
        self._origin, self._stream = origin, origin.wrapped.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        self._origin.wait_in_time()
        try:
            return self._stream.readinto(buffer)
        except TimeoutError as error:
            self._origin.wait_in_time()
            raise TimeoutError(f"the server sent nothing for {SILENCE_SECONDS:g} seconds") from error

    def close(self) -> None:
        super().close()
        self._stream.close()


def _connect(client: _Client | _TlsClient) -> None:
    try:
        client.connect()
    except TimeoutError as error:
        raise TimeoutError(f"no connection within {SILENCE_SECONDS:g} seconds") from error


@cache
def _trusted() -> ssl.SSLContext:
    """Checks certificates against those that this host trusts; SSL_CERT_FILE names others, as for OpenSSL's programs."""
    return ssl.create_default_context()
