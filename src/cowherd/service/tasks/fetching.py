"""Fetches a URL for an import: from addresses that may be asked, within bounds of time, and with every redirect judged anew."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from cowherd.errors import CowherdError
from cowherd.service.tasks.addresses import DEFAULT_PORTS, Addresses, port_of
from cowherd.service.tasks.bounding import cut_off_after
from cowherd.text import printable

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Mapping
    from urllib.parse import SplitResult

SILENCE_SECONDS = 60.0
"""How long nothing may come."""
LONGEST_SECONDS = 6 * 3600.0
"""How long all may take."""
_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_BLOCK = 1 << 20


class FetchFailed(CowherdError):
    """What was to be imported could not be fetched. Attributes: `url`, `problem`."""

    def __init__(self, url: str, problem: str):
        self.url, self.problem = url, problem

    def __str__(self) -> str:
        return f"{printable(self.url)} could not be fetched: {self.problem}. Import it again when that is remedied"


class Fetched:
    """What a server sends: `length` in bytes, None if it does not say, and the bytes in blocks."""

    def __init__(self, url: str, answer: http.client.HTTPResponse, over: threading.Event):
        self._url, self._answer, self._over = url, answer, over
        self.length = answer.length

    def blocks(self) -> Iterator[bytes]:
        """Gives the bytes. Raises `FetchFailed` if they end too early, or take too long."""
        with _told(self._url):
            while block := self._answer.read(_BLOCK):
                yield block
            if self._over.is_set():
                raise FetchFailed(self._url, f"it took longer than {LONGEST_SECONDS:.0f} seconds")
        if self._answer.length:
            raise FetchFailed(self._url, f"{self._answer.length} bytes are missing at its end")


@contextlib.contextmanager
def fetch(url: str, addresses: Addresses, headers: Mapping[str, str] | None = None) -> Iterator[Fetched]:
    """Opens a URL, and gives what its server sends. Raises `AddressRefused`, `FetchFailed`.

    More `headers` are sent to this URL only: where it redirects to, nobody is to get a token.
    """
    for _ in range(_MOST_REDIRECTS + 1):
        parts = addresses.check(url)
        with (
            contextlib.closing(_connect(url, parts, addresses)) as connection,
            cut_off_after(connection.sock, LONGEST_SECONDS) as over,
            _told(url),
            _ask(connection, parts, headers or {}) as answer,
        ):
            target = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or target is None:
                if answer.status != http.client.OK:
                    raise FetchFailed(url, f"its server answered {answer.status}")
                yield Fetched(url, answer, over)
                return
            url, headers = urljoin(url, target), None
    raise FetchFailed(url, f"its server redirects more than {_MOST_REDIRECTS} times")


def _connect(url: str, parts: SplitResult, addresses: Addresses) -> http.client.HTTPConnection:
    """Returns a connection to the address that was judged: nobody resolves the name again."""
    address, port = addresses.resolve(url, parts)
    host = parts.hostname or ""
    with _told(url):
        plain = socket.create_connection((address, port), timeout=SILENCE_SECONDS)
        connection = http.client.HTTPConnection(host, port, timeout=SILENCE_SECONDS)
        try:
            connection.sock = (
                ssl.create_default_context().wrap_socket(plain, server_hostname=host) if parts.scheme == "https" else plain
            )
        except BaseException:
            plain.close()
            raise
        return connection


def _ask(connection: http.client.HTTPConnection, parts: SplitResult, headers: Mapping[str, str]) -> http.client.HTTPResponse:
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    port = port_of(parts)
    shown = host if port == DEFAULT_PORTS[parts.scheme] else f"{host}:{port}"
    usual = {"Host": shown, "Accept-Encoding": "identity", "Connection": "close"}
    connection.request("GET", path, headers={**headers, **usual})
    return connection.getresponse()


@contextlib.contextmanager
def _told(url: str) -> Iterator[None]:
    """Raises `FetchFailed` for what goes wrong on the way."""
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        raise FetchFailed(url, str(error) or type(error).__name__) from error
