"""Who looks at the page. A browser has no header for tokens: it asks for a name and a password, and the token is the password."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from cowherd.pages.hosts import is_own_name
from cowherd.service.web.errors import Forbidden, Unauthorized
from cowherd.service.web.page.words import host_in

if TYPE_CHECKING:
    from cowherd.service.policy.personas import Caller
    from cowherd.service.web.call import Call

HOME = "/cowherd/"
IMAGES = "/cowherd/images/"
_TOKEN_HEADER = "x-auth-token"
_ASKS = {"WWW-Authenticate": 'Basic realm="cowherd", charset="UTF-8"'}
_HOW = "Give a token of this service as the password. The user name may be any."


def is_for_people(path: str) -> bool:
    """Tells whether a path is one of the page."""
    return path in (HOME, HOME.rstrip("/")) or path.startswith(IMAGES)


def visitor(call: Call) -> Caller:
    """Returns who looks at the page: the caller whose token the request shows, as a header or as the password of HTTP Basic.

    Basic counts here only, where nothing can be changed: a browser sends it along with whatever a page of another site makes it
    ask for. Raises `Unauthorized`, `Forbidden` for a name of this host that a stranger may have chosen, and what the service's
    way to know callers raises.
    """
    refuse_strange_names(call)
    token = call.header(_TOKEN_HEADER) or _password(call.header("authorization") or "")
    try:
        return call.service.auth.caller({_TOKEN_HEADER: token} if token else {})
    except Unauthorized as error:
        raise Unauthorized(_HOW, _ASKS) from error


def _password(header: str) -> str | None:
    """Returns the password of a header Authorization, None if it holds none."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        _, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return password if colon else None


def refuse_strange_names(call: Call) -> None:
    """Raises `Forbidden` if nobody has to be known, and a browser means a name that is not this host's: see `is_own_name`."""
    settings = call.service.settings
    if settings.auth != "none":
        return
    asked = host_in(f"//{call.header('host') or ''}")
    if asked is None or not (is_own_name(asked) or asked == host_in(settings.public_endpoint)):
        raise Forbidden("Browsers are answered under the address of this host only, as in http://127.0.0.1:9292/cowherd/.")
