"""From which addresses the service fetches for its callers: never from its own host and network, unless that is allowed.

A caller names a URL, and the service asks for it: without bounds the caller could read what only the service's host can reach. So
a name is resolved once, each address that it has is judged, and the connection goes to an address that was judged.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from cowherd.errors import CowherdError
from cowherd.text import printable

DEFAULT_PORTS = {"http": 80, "https": 443}


class AddressRefused(CowherdError):
    """The service does not fetch from there. Attributes: `url` (what was asked for), `problem`."""

    def __init__(self, url: str, problem: str):
        self.url, self.problem = url, problem

    def __str__(self) -> str:
        return f"URI for web-download does not pass filtering: {printable(self.url)}: {self.problem}"


@dataclass(frozen=True)
class Addresses:
    """Which addresses may be asked: those of the internet at the usual ports, and `allowed` ones, each HOST or HOST:PORT."""

    allowed: tuple[str, ...] = ()

    def check(self, url: str) -> SplitResult:
        """Returns the parts of a URL that may be asked for, as far as can be said without resolving its name.

        Raises `AddressRefused`.
        """
        try:
            parts = urlsplit(url)
            port = port_of(parts)
        except ValueError as error:
            raise AddressRefused(url, str(error)) from error
        host = parts.hostname
        if parts.scheme not in DEFAULT_PORTS or not host or not url.isascii() or any(one <= " " for one in url):
            raise AddressRefused(url, "it is no URL of the schemes http and https")
        if parts.username is not None or parts.password is not None:
            raise AddressRefused(url, "it names a user")
        if self._is_allowed(host, port):
            return parts
        if port != DEFAULT_PORTS[parts.scheme]:
            raise AddressRefused(url, f"port {port} is not allowed")
        if host == "localhost" or host.endswith(".localhost"):
            raise AddressRefused(url, "it is an address of this host")
        numeric = _numeric(host)
        if numeric is not None and not is_public(numeric):
            raise AddressRefused(url, f"{numeric} is no address of the internet")
        return parts

    def resolve(self, url: str, parts: SplitResult) -> tuple[str, int]:
        """Returns an address to connect to for a URL that `check` let through, and the port. Raises `AddressRefused`."""
        host, port = parts.hostname or "", port_of(parts)
        try:
            found = [str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        except (OSError, UnicodeError) as error:
            raise AddressRefused(url, f"the name {printable(host)} is not known") from error
        if not self._is_allowed(host, port):
            for address in found:
                if not is_public(address):
                    raise AddressRefused(url, f"{address} is no address of the internet")
        return found[0], port

    def _is_allowed(self, host: str, port: int) -> bool:
        shown = f"[{host}]" if ":" in host else host
        return host in self.allowed or f"{shown}:{port}" in self.allowed


def port_of(parts: SplitResult) -> int:
    """Returns the port of a URL. Raises ValueError for one that is none."""
    return parts.port if parts.port is not None else DEFAULT_PORTS.get(parts.scheme, 0)


def is_public(address: str) -> bool:
    """Tells whether an address is one of the internet: not of this host, its network, or for special use, also if embedded."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if inner is not None:
            return inner.is_global and not inner.is_multicast
        if found in _NAT64:
            return False
    return found.is_global and not found.is_multicast


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def _numeric(host: str) -> str | None:
    """Returns the address that a host is in any form which the system's resolver takes for one, None if it is a name."""
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[0][4][0])
    except (OSError, UnicodeError):
        return None
