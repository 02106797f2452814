"""The socket on which the service listens: an address, a path, or one that systemd opened before."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import stat
from typing import TYPE_CHECKING

from cowherd.errors import HostFileError, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

BACKLOG = 2048
_FIRST_PASSED = 3
"""The descriptor of the first socket that systemd passes."""


@contextlib.contextmanager
def listening(address: str | None, path: str | None) -> Iterator[socket.socket]:
    """Gives a socket that listens at HOST:PORT, or at `path` with mode 0600, or the one that systemd passed if there is one.

    Port 0 takes a free port. A socket file that nobody listens on any more is replaced, and ours is removed at the end. Raises
    `HostFileError` where the host refuses, `InvalidRequest` for an address that makes no sense.
    """
    passed = _passed()
    if passed:
        with passed:
            yield passed
    elif path is not None:
        with _bound_to_path(path) as bound:
            yield bound
    else:
        assert address is not None
        with _bound_to_address(*split_address(address)) as bound:
            yield bound


def split_address(address: str) -> tuple[str, int]:
    """Splits HOST:PORT, where HOST may be an IPv6 address in brackets. Raises `InvalidRequest`."""
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdecimal() or int(port) > 0xFFFF:
        raise InvalidRequest(f"{address!a} is no address to listen on; write it as in 127.0.0.1:9292 or [::1]:9292")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Tells whether only this host can reach `host`: `localhost`, or an address of the loopback network."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def url_of(bound: socket.socket) -> str:
    """Returns what clients call a listening socket: a URL, or `unix:` and a path."""
    name = bound.getsockname()
    if bound.family == socket.AF_UNIX:
        return f"unix:{name}"
    host = f"[{name[0]}]" if bound.family == socket.AF_INET6 else name[0]
    return f"http://{host}:{name[1]}"


def _passed() -> socket.socket | None:
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not int(os.environ.get("LISTEN_FDS", "0")):
        return None
    return socket.socket(fileno=_FIRST_PASSED)


def _bound_to_address(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise HostFileError(f"{host}:{port}", "listen on", error) from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(where)
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise HostFileError(f"{host}:{port}", "listen on", error) from error
    return bound


@contextlib.contextmanager
def _bound_to_path(path: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bound:
        try:
            _remove_dead_socket(path)
            before = os.umask(0o177)  # so that nobody can connect between the making and a change of the mode
            try:
                bound.bind(path)
            finally:
                os.umask(before)
            bound.listen(BACKLOG)
            made = os.stat(path)
        except OSError as error:
            raise HostFileError(path, "listen on", error) from error
        try:
            yield bound
        finally:
            _remove(path, made)


def _remove_dead_socket(path: str) -> None:
    """Removes a socket file that nobody listens on. Raises OSError if somebody does, or if the file is none."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, "there is a file of this name that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        else:
            raise OSError(errno.EADDRINUSE, "another process listens there")


def _remove(path: str, made: os.stat_result) -> None:
    with contextlib.suppress(FileNotFoundError):
        now = os.stat(path)
        if (now.st_dev, now.st_ino) == (made.st_dev, made.st_ino):  # and not another server's that came in between
            os.unlink(path)
