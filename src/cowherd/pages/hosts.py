"""Whether a browser that asks for a page means this host."""

from __future__ import annotations

import ipaddress
import socket


def is_own_name(name: str) -> bool:
    """Tells whether `name`, in lower case, is an address, localhost, or the name of this host.

    A page of a stranger can have its own name lead to a server of this host (DNS rebinding), and would then be allowed to read
    the answers. But it can't choose the name that the browser sends.
    """
    return name in ("localhost", socket.gethostname().lower()) or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
