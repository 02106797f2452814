"""Where to serve something over HTTP: on this machine only, unless somebody says otherwise."""

from __future__ import annotations

import ipaddress

from cowherd.errors import InvalidRequest

DEFAULT_ADDRESS = "127.0.0.1"
_LAST_PORT = 65535


def parse_address(where: str, option: str, *, anywhere: bool) -> tuple[str, int]:
    """Returns the IP address and the port in `[ADDRESS:]PORT`, with an IPv6 address in brackets.

    `option` is what was typed before it, for messages. Raises `InvalidRequest` if it is something else, or without `anywhere` an
    address that other machines can reach.
    """
    host, _, port = where.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or DEFAULT_ADDRESS
    if not port.isascii() or not port.isdecimal() or int(port) > _LAST_PORT:
        raise InvalidRequest(f"{option} {where!a}: it has to be a port, or an address, a colon and a port")
    try:
        address = ipaddress.ip_address(DEFAULT_ADDRESS if host == "localhost" else host)
    except ValueError as error:
        raise InvalidRequest(f"{option} {where!a}: {host!a} is no address") from error
    if not address.is_loopback and not anywhere:
        raise InvalidRequest(
            f"{option} {where!a}: others could read it, names of images and all; {option}-anywhere allows that, "
            f"{DEFAULT_ADDRESS}:{port} keeps it on this machine"
        )
    return str(address), int(port)
