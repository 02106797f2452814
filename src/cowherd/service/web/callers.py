"""Who asks: nobody is asked, a file of hashed tokens knows, or the identity service does."""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from typing import TYPE_CHECKING, Protocol

import msgspec

from cowherd.errors import HostFileError, InvalidRequest
from cowherd.service.policy.personas import Caller
from cowherd.service.web.errors import Unauthorized

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOKEN_HEADER = "x-auth-token"
_TOKEN_BYTES = 32


class Auth(Protocol):
    """Finds out who asks."""

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Returns who sent a request with these headers. Raises `Unauthorized` if nobody knows. May block."""


class NoAuth:
    """Everybody who reaches the service may do all: a socket that only its owner may use, or the loopback network."""

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Returns an administrator without a project."""
        return Caller(user=None, project=None, roles=frozenset({"admin"}))


class _Known(msgspec.Struct, frozen=True):
    """One line of the file of tokens, as JSON."""

    hash: str
    project: str
    roles: tuple[str, ...]
    user: str


class TokenAuth:
    """Callers are known by tokens, of which a file keeps the hashes. The file is read again when it changes."""

    def __init__(self, path: str):
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._known: dict[str, Caller] = {}

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Returns whose token the request shows. Raises `Unauthorized`, and `HostFileError` if the file can't be read."""
        token = headers.get(_TOKEN_HEADER)
        known = self._current().get(_hash_of(token)) if token else None
        if known is None:
            raise Unauthorized("The request you have made requires authentication.", {"WWW-Authenticate": "Token"})
        return known

    def _current(self) -> dict[str, Caller]:
        try:
            found = os.stat(self._path)
        except OSError as error:
            raise HostFileError(self._path, "read", error) from error
        now = (found.st_ino, found.st_size, found.st_mtime_ns)
        with self._lock:
            if now != self._seen:
                self._known, self._seen = _read_tokens(self._path), now
            return self._known


def add_token(path: str, user: str, project: str, roles: tuple[str, ...]) -> str:
    """Adds a caller to the file of hashed tokens, which is made with mode 0600. Returns the token, which is kept nowhere."""
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    line = msgspec.json.encode(_Known(_hash_of(token), project, roles, user)) + b"\n"
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, line)
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        raise HostFileError(path, "write", error) from error
    return token


def _hash_of(token: str) -> str:
    # A token is 32 random bytes: no slow hash is needed against guessing, and equal hashes are found without comparing secrets.
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _read_tokens(path: str) -> dict[str, Caller]:
    try:
        with open(path, "rb") as file:
            lines = [line for line in file.read().splitlines() if line.strip()]
    except OSError as error:
        raise HostFileError(path, "read", error) from error
    try:
        entries = [msgspec.json.decode(line, type=_Known) for line in lines]
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise InvalidRequest(f"{path} is no file of tokens: {error}") from error
    return {entry.hash: Caller(user=entry.user, project=entry.project, roles=frozenset(entry.roles)) for entry in entries}
