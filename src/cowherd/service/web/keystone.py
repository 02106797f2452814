"""Callers known by OpenStack's identity service: each token is shown to it once, and believed for a while."""

from __future__ import annotations

import hashlib
import http.client
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import msgspec

from cowherd.errors import InvalidRequest
from cowherd.service.policy.personas import Caller
from cowherd.service.tasks.bounding import cut_off_after
from cowherd.service.tasks.regions import RegionUnknown
from cowherd.service.web.errors import Unauthorized, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

BELIEVED_SECONDS = 300.0
"""How long a token is believed at most before it is shown again, since it may have been revoked."""
PATIENCE_SECONDS = 20.0
"""How long the identity service may take for an answer."""
_MOST_ANSWER_BYTES = 1 << 20
_MOST_KNOWN = 10_000
_UNKNOWN = (401, 404)
_CONNECTIONS = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}


class _Named(msgspec.Struct):
    name: str


class _Identified(msgspec.Struct):
    id: str


class _Token(msgspec.Struct):
    """What matters of a token. One without a project is for a domain or the system."""

    expires_at: datetime
    user: _Identified
    project: _Identified | None = None
    roles: list[_Named] = []


class _Answer(msgspec.Struct):
    token: _Token


class _Endpoint(msgspec.Struct):
    interface: str
    url: str
    region: str | None = None


class _Offered(msgspec.Struct):
    type: str = ""
    endpoints: list[_Endpoint] = []


class _Catalog(msgspec.Struct):
    catalog: list[_Offered]


class _Known(NamedTuple):
    """A caller whose token was shown: until it expires, and by a clock that nobody sets for a while at most."""

    caller: Caller
    expires_at: datetime
    believed_until: float

    def is_fresh(self) -> bool:
        return datetime.now(UTC) < self.expires_at and time.monotonic() < self.believed_until


class KeystoneAuth:
    """Finds out whose token a request shows by asking the identity service, version 3, at an address."""

    def __init__(self, address: str):
        """Raises `InvalidRequest` for an address that is none."""
        parts = urlsplit(address)
        if parts.scheme not in _CONNECTIONS or not parts.hostname:
            raise InvalidRequest(f"{address!a} is no address of an identity service; write it as in http://127.0.0.1:5000/v3")
        path = parts.path.rstrip("/").removesuffix("/v3")
        self._address, self._parts, self._path = address, parts, f"{path}/v3/auth/tokens?nocatalog"
        self._lock = threading.Lock()
        self._known: dict[bytes, _Known] = {}

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Returns whose token the request shows.

        Raises `Unauthorized` if it shows none that is valid, `Unavailable` if the identity service gives no sensible answer.
        """
        token = headers.get("x-auth-token")
        if not token or not token.isascii():
            raise self._unauthorized()
        key = hashlib.sha256(token.encode()).digest()  # so that nothing that stays in memory is a token
        with self._lock:
            known = self._known.get(key)
        if known is not None and known.is_fresh():
            return known.caller
        return self._remember(key, self._ask(token))

    def _remember(self, key: bytes, token: _Token) -> Caller:
        # The rules of the service are about projects: a token for a domain or the system gives nobody a role in one.
        roles = frozenset(role.name.lower() for role in token.roles) if token.project else frozenset()
        caller = Caller(token.user.id, token.project.id if token.project else None, roles)
        with self._lock:
            if len(self._known) >= _MOST_KNOWN:
                self._known = {key: known for key, known in self._known.items() if known.is_fresh()}
            if len(self._known) < _MOST_KNOWN:
                self._known[key] = _Known(caller, token.expires_at, time.monotonic() + BELIEVED_SECONDS)
        return caller

    def endpoint_of(self, token: str, region: str, interface: str) -> str:
        """Returns the address of the image service of a region, by the catalog that a token shows. Raises `RegionUnknown`."""
        _, body = self._exchange(token, self._path.replace("/tokens?nocatalog", "/catalog"))
        try:
            services = msgspec.json.decode(body, type=_Catalog).catalog
        except (msgspec.MsgspecError, RecursionError) as error:
            raise RegionUnknown(region, interface) from error
        for endpoint in (one for service in services if service.type == "image" for one in service.endpoints):
            if (endpoint.region, endpoint.interface) == (region, interface):
                return endpoint.url
        raise RegionUnknown(region, interface)

    def _ask(self, token: str) -> _Token:
        status, body = self._exchange(token, self._path)
        if status in _UNKNOWN:
            raise self._unauthorized()
        try:
            found = msgspec.json.decode(body, type=_Answer).token if status == http.client.OK else None
        except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
            raise Unavailable(f"The identity service gave an answer that makes no sense: {error}") from error
        if found is None or found.expires_at.tzinfo is None:
            raise Unavailable(f"The identity service answered {status}.")
        if found.expires_at <= datetime.now(UTC):
            raise self._unauthorized()
        return found

    def _exchange(self, token: str, path: str) -> tuple[int, bytes]:
        connection = _CONNECTIONS[self._parts.scheme](self._parts.hostname or "", self._parts.port, timeout=PATIENCE_SECONDS)
        try:
            connection.connect()
            with cut_off_after(connection.sock, PATIENCE_SECONDS):
                # A token may ask about itself, so the service needs no name and password of its own.
                connection.request("GET", path, headers={"X-Auth-Token": token, "X-Subject-Token": token, "Connection": "close"})
                answer = connection.getresponse()
                return answer.status, answer.read(_MOST_ANSWER_BYTES)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Unavailable(f"The identity service does not answer: {type(error).__name__}.") from error
        finally:
            connection.close()

    def _unauthorized(self) -> Unauthorized:
        problem = "The request you have made requires authentication."
        return Unauthorized(problem, {"WWW-Authenticate": f'Keystone uri="{self._address}"'})
