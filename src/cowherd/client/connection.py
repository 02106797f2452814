"""Requests to an image service, over TCP, TLS or a unix socket; a token is fetched when the service asks for one."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from cowherd.client.faults import ServiceRefused, ServiceUnreachable, refusal
from cowherd.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

UNIX = "unix:"
PATIENCE_SECONDS = 60.0
"""How long an answer may take to begin, where no work of the service stands behind it."""
_PAGE = 200


class Answer(NamedTuple):
    """An answer: its status, its headers with names in lower case, its body."""

    status: int
    headers: dict[str, str]
    body: bytes


class Service:
    """An image service at `address`: http://..., https://..., or unix: and the path of a socket."""

    def __init__(self, address: str, token: str | None = None, new_token: Callable[[], str] | None = None):
        """`new_token` fetches a token, and is called when the service asks for one that it does not know yet."""
        self.address = address.rstrip("/")
        self._socket = self.address.removeprefix(UNIX) if self.address.startswith(UNIX) else None
        self._parts = urlsplit("http://localhost" if self._socket else self.address)
        if self._parts.scheme not in ("http", "https") or not self._parts.hostname:
            raise InvalidRequest(f"{address!a} is no address of a service; write it as in http://HOST:9292 or unix:/PATH")
        self._token, self._new_token = token, new_token

    def ask(self, method: str, path: str, document: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Sends a request, with a JSON document if there is one, and returns the answer, whatever its status.

        Raises `ServiceUnreachable`.
        """
        body = None if document is None else json.dumps(document).encode()
        kind = {} if document is None else {"Content-Type": "application/json"}
        while True:
            with self.opened() as connection:
                connection.request(method, self.path(path), body, {**kind, **self.headers(), **(headers or {})})
                answer = connection.getresponse()
                told = {name.lower(): value for name, value in answer.getheaders()}
                found = Answer(answer.status, told, answer.read())
            if found.status != 401 or not self.renew_token():
                return found

    def document(self, method: str, path: str, document: Any = None) -> Any:
        """Sends a request, and returns the JSON document that is its answer, None if that is empty.

        Raises `ServiceRefused` for an error, `ServiceUnreachable`.
        """
        answer = self.ask(method, path, document)
        if answer.status >= 400:
            raise refusal(answer.status, answer.body)
        return self.parsed(answer, path) if answer.body else None

    @staticmethod
    def parsed(answer: Answer, path: str) -> Any:
        """Returns the JSON document of an answer that came from `path`. Raises `ServiceRefused` if it is none."""
        try:
            return json.loads(answer.body)
        except ValueError as error:
            raise ServiceRefused(answer.status, f"{path} gave no JSON; is this an image service?") from error

    def images(self, **filters: str) -> Iterator[dict[str, Any]]:
        """Gives the images that the caller may see, page after page, those of `filters` only."""
        path: str | None = "/v2/images?" + urlencode({"limit": str(_PAGE), **filters})
        while path:
            page = self.document("GET", path)
            if not isinstance(page, dict) or not isinstance(page.get("images"), list):
                raise ServiceRefused(200, "what it gave is no list of images; is this an image service?")
            yield from page["images"]
            path = page.get("next")

    @contextlib.contextmanager
    def opened(self, patience_seconds: float = PATIENCE_SECONDS) -> Iterator[http.client.HTTPConnection]:
        """Gives a connection, and closes it. Raises `ServiceUnreachable` for whatever goes wrong with it."""
        connection = self._connection(patience_seconds)
        with contextlib.closing(connection):
            try:
                yield connection
            except (OSError, http.client.HTTPException) as error:
                raise ServiceUnreachable(self.address, str(error) or type(error).__name__) from error

    def path(self, path: str) -> str:
        """Returns a path of the service as it is asked for at its address."""
        return self._parts.path + path

    def headers(self) -> dict[str, str]:
        """Returns the headers that tell who asks, and that errors are to be told in JSON rather than on a page."""
        return {"Accept": "application/json", **({"X-Auth-Token": self._token} if self._token else {})}

    def renew_token(self) -> bool:
        """Called when the service asks for a token: fetches one, once. Returns whether there is a new one."""
        if self._new_token is None:
            return False
        self._token, self._new_token = self._new_token(), None
        return True

    def _connection(self, patience_seconds: float) -> http.client.HTTPConnection:
        if self._socket:
            return _UnixConnection(self._socket, patience_seconds)
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        return kind(self._parts.hostname or "", self._parts.port, timeout=patience_seconds)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
