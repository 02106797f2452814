"""Reads ranges of a file on a server (RFC 9110, sections 14 and 15.4), and checks each answer against its request.

Nothing here trusts the server: whatever it sends, within a bounded time the reader gets the bytes that it asked for, of the
version that it met first, or an error that says what is wrong.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import threading
from base64 import b64encode
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote, urljoin, urlsplit

from cowherd.errors import RemoteFileError
from cowherd.sizes import INT64_MAX
from cowherd.storage.httpconnection import Connection, Origin
from cowherd.text import printable
from cowherd.urls import Url

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_REDIRECTIONS = 5
_REDIRECTIONS = (301, 302, 303, 307, 308)
_EXPIRED = (401, 403, 404, 410)
_PORTS = {"http": 80, "https": 443}
_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,19})-(\d{1,19})|\*)/(\d{1,19}|\*)", re.ASCII)
_KEPT_IN_PATHS = "/%:@!$&'()*+,;=~"
_KEPT_IN_QUERIES = _KEPT_IN_PATHS + '?[]{}|^`\\"<>'


class Version(NamedTuple):
    """Distinguishes one state of a remote file from another: its size in bytes, and what the server says of it, if anything."""

    size: int
    entity_tag: str | None
    last_modified: str | None


class _Place(NamedTuple):
    """The place of a file: a server, and the server's name for the file (path and query)."""

    origin: Origin
    target: str

    @property
    def address(self) -> str:
        host = f"[{self.origin.host}]" if ":" in self.origin.host else self.origin.host
        return f"{self.origin.scheme}://{host}:{self.origin.port}{self.target}"


class _Refused(Exception):
    """Ends a request, and says why."""


class RangeClient:
    """Reads one remote file. Several threads may use it at once: each has a connection, which also serves later requests."""

    def __init__(self, url: Url):
        """Raises `RemoteFileError` for an address that makes no sense. It sends no request yet."""
        self.url = url
        with self._telling("open"):
            self._place = self._first_place = _place_of(url.address)
        self._authorization = _authorization_of(url.address)
        self._idle: list[Connection] = []
        self._lock = threading.Lock()

    def open(self, length: int) -> tuple[Version, bytes]:
        """Returns the file's present version and its first `length` bytes (fewer if it ends before). Raises `RemoteFileError`.

        One request gets both, so that it needs no HEAD: servers may lack it, and addresses that are signed for GET forbid it.
        """
        with self._telling("open"), self._answer(0, length) as response:
            if _is_empty(response):
                return _version_of(response, 0), b""
            first, end, size = _range_of(response)
            if (first, end) != (0, min(length, size)):
                raise _Refused(f"the server sent bytes {first} to {end} where 0 to {min(length, size)} were asked for")
            data = bytearray(end)
            _fill(response, memoryview(data))
            return _version_of(response, size), bytes(data)

    def read(self, start: int, buffer: memoryview, version: Version) -> None:
        """Fills `buffer` with bytes from `start` on, all of which lie inside `version`. Raises `RemoteFileError`."""
        end = start + len(buffer)
        with self._telling("read"), self._answer(start, end) as response:
            if response.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise _Refused("it has changed on the server meanwhile: it has become shorter")
            first, last, size = _range_of(response)
            if _version_of(response, size) != version:
                raise _Refused("it has changed on the server meanwhile")
            if (first, last) != (start, end):
                raise _Refused(f"the server sent bytes {first} to {last} where {start} to {end} were asked for")
            _fill(response, buffer)

    def close(self) -> None:
        """Closes the connections. Closing twice is fine."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextlib.contextmanager
    def _answer(self, start: int, end: int) -> Iterator[http.client.HTTPResponse]:
        """Gives the answer to a request for [start, end); keeps its connection if the caller reads all of the answer."""
        connection, response = self._follow(self._place, start, end)
        if response.status in _EXPIRED and self._place != self._first_place:
            _drop(connection, response)  # the address that a server redirects to may expire
            connection, response = self._follow(self._first_place, start, end)
        try:
            yield response
        except BaseException:
            _drop(connection, response)
            raise
        if response.isclosed():  # all of it was read
            with self._lock:
                self._idle.append(connection)
        else:
            _drop(connection, response)

    def _follow(self, place: _Place, start: int, end: int) -> tuple[Connection, http.client.HTTPResponse]:
        for _ in range(_MOST_REDIRECTIONS + 1):
            connection, response = self._send(place, f"bytes={start}-{end - 1}")
            if response.status not in _REDIRECTIONS:
                self._place = place
                return connection, response
            _drop(connection, response)
            place = _redirected(place, response.getheader("Location"))
        raise _Refused(f"the server redirected more than {_MOST_REDIRECTIONS} times")

    def _send(self, place: _Place, wanted: str) -> tuple[Connection, http.client.HTTPResponse]:
        headers = {"Range": wanted, "Accept-Encoding": "identity", "User-Agent": "cowherd"}
        if self._authorization is not None and place.origin == self._first_place.origin:  # no other server may learn it
            headers["Authorization"] = self._authorization
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is not None:
            # A server may close a connection at any time between two requests.
            with contextlib.suppress(ConnectionError, http.client.BadStatusLine), _closing_if_failed(connection):
                if connection.origin == place.origin and connection.is_quiet:
                    return connection, connection.get(place.target, headers)
            connection.close()
        connection = Connection(place.origin)
        with _closing_if_failed(connection):
            return connection, connection.get(place.target, headers)

    @contextlib.contextmanager
    def _telling(self, action: str) -> Iterator[None]:
        try:
            yield
        except RemoteFileError:
            raise
        except (OSError, http.client.HTTPException, _Refused) as error:
            raise RemoteFileError(self.url, action, _reason(error)) from error


def _drop(connection: Connection, response: http.client.HTTPResponse) -> None:
    """Closes both: if the server closes after an answer, that answer alone holds the socket."""
    response.close()
    connection.close()


@contextlib.contextmanager
def _closing_if_failed(connection: Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _place_of(address: str) -> _Place:
    """Splits an address. Raises `_Refused` if it makes no sense, or has another protocol."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError as error:  # its text may quote a part of a password, so it is left out
        raise _Refused("the address makes no sense") from error
    if parts.scheme not in _PORTS:
        raise _Refused(f"the protocol '{printable(parts.scheme)}' is not followed")
    if not host:
        raise _Refused("the address has no host")
    query = f"?{quote(parts.query, safe=_KEPT_IN_QUERIES)}" if parts.query else ""
    target = quote(parts.path, safe=_KEPT_IN_PATHS) or "/"
    return _Place(Origin(parts.scheme, host, _PORTS[parts.scheme] if port is None else port), target + query)


def _authorization_of(address: str) -> str | None:
    parts = urlsplit(address)
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return f"Basic {b64encode(pair.encode()).decode()}"


def _redirected(place: _Place, location: str | None) -> _Place:
    if not location:
        raise _Refused("the server redirects without saying where to")
    found = _place_of(urljoin(place.address, location))
    if place.origin.scheme == "https" and found.origin.scheme != "https":
        raise _Refused("the server redirects from https to http, which is not followed")
    return found


def _range_of(response: http.client.HTTPResponse) -> tuple[int, int, int]:
    """Returns the first byte and the end of the range in an answer, and the size of the whole file. Raises `_Refused`."""
    if response.status == http.client.OK:
        raise _Refused("Server does not support 'range' (byte ranges).")
    if response.status != http.client.PARTIAL_CONTENT:
        raise _Refused(f"The requested URL returned error: {response.status}")
    encoding = response.getheader("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise _Refused(f"the server sent bytes with the encoding '{printable(encoding)}', which nobody asked for")
    found = _CONTENT_RANGE.fullmatch(response.getheader("Content-Range", ""))
    if found is None or found[1] is None:
        raise _Refused("the server does not say which range it sent")
    if found[3] == "*":
        raise _Refused("Server didn't report file size.")
    first, end, size = int(found[1]), int(found[2]) + 1, int(found[3])
    if not first < end <= size <= INT64_MAX:
        raise _Refused(f"the server says that it sent bytes {first} to {end} of {size}")
    if response.length is not None and response.length != end - first:
        raise _Refused(f"the server says that it sends {response.length} bytes for a range of {end - first}")
    return first, end, size


def _is_empty(response: http.client.HTTPResponse) -> bool:
    """Whether the answer to a request for the first bytes says that the file has none."""
    if response.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
        return response.getheader("Content-Range") == "bytes */0"
    return response.status == http.client.OK and response.length == 0


def _version_of(response: http.client.HTTPResponse, size: int) -> Version:
    return Version(size, response.getheader("ETag"), response.getheader("Last-Modified"))


def _fill(response: http.client.HTTPResponse, buffer: memoryview) -> None:
    """Fills `buffer` with a body that must have exactly as many bytes. Raises `_Refused`."""
    done = 0
    while done < len(buffer):
        count = response.readinto(buffer[done:])
        if not count:
            raise _Refused(f"the server closed the connection after {done} of {len(buffer)} bytes")
        done += count
    if response.read(1):
        raise _Refused(f"the server sent more than the {len(buffer)} bytes of the range")


def _reason(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return f"Could not resolve host: {error.strerror}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not to be trusted: {error.verify_message}"
    if isinstance(error, http.client.RemoteDisconnected):
        return "the server closed the connection without an answer"
    if isinstance(error, http.client.IncompleteRead):
        return "the server closed the connection inside of its answer"
    if isinstance(error, http.client.HTTPException):
        return f"the server's answer makes no sense ({type(error).__name__})"
    return printable(error.strerror or str(error)) if isinstance(error, OSError) else str(error)
