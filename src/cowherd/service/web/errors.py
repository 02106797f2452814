"""The errors that an answer can tell of, each with its status, and their bodies: HTML, JSON or text, as the client accepts.

WebError
  BadRequest 400        Unauthorized 401      Forbidden 403      NotFound 404        MethodNotAllowed 405
  BodyStalled 408       Conflict 409          Gone 410           TooLarge 413        UnsupportedMedia 415
  PreconditionFailed 412                      RangeNotSatisfiable 416            Locked 423
  HeadTooLarge 431      ChecksumMismatch 460  Unavailable 503
"""

from __future__ import annotations

import html
import http
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

from cowherd.errors import CowherdError

if TYPE_CHECKING:
    from collections.abc import Mapping


class WebError(CowherdError):
    """A request that is answered with an error. Attributes: `problem` (a sentence), `headers` (more headers of the answer)."""

    status = 500
    phrase: str | None = None
    """What the status means, where HTTP itself does not say it."""

    def __init__(self, problem: str, headers: Mapping[str, str] | None = None):
        super().__init__(problem)
        self.problem, self.headers = problem, dict(headers or {})


class BadRequest(WebError):
    """The request makes no sense."""

    status = 400


class Unauthorized(WebError):
    """Nobody knows who asks."""

    status = 401


class Forbidden(WebError):
    """The caller may see the thing but not do this with it."""

    status = 403


class NotFound(WebError):
    """There is no such thing, or the caller may not know of it."""

    status = 404


class MethodNotAllowed(WebError):
    """The resource has no such method. The header Allow names those that it has."""

    status = 405


class BodyStalled(WebError):
    """The body of the request stopped coming."""

    status = 408


class Conflict(WebError):
    """The thing is in a state in which this can't be done."""

    status = 409


class Gone(WebError):
    """The thing was deleted while the request was under way."""

    status = 410


class PreconditionFailed(WebError):
    """The request asks for another version of a protocol than there is."""

    status = 412


class TooLarge(WebError):
    """The request is larger than is allowed, or than there is room for."""

    status = 413


class UnsupportedMedia(WebError):
    """The body is of a kind that is not taken here."""

    status = 415


class RangeNotSatisfiable(WebError):
    """The range lies outside of the content."""

    status = 416


class Locked(WebError):
    """Another request works on the thing."""

    status = 423


class HeadTooLarge(WebError):
    """A header is longer than is allowed."""

    status = 431


class ChecksumMismatch(WebError):
    """The body does not have the checksum that was announced; the status is one of the protocol tus."""

    status = 460
    phrase = "Checksum Mismatch"


class Unavailable(WebError):
    """The service can't do this now."""

    status = 503


_PAGE = """\
<html>
 <head>
  <title>{status}</title>
 </head>
 <body>
  <h1>{status}</h1>
  {problem}<br /><br />


 </body>
</html>"""


def answer_to_error(accept: str, error: WebError) -> Response:
    """Returns the answer that tells of an error, in a form that a client with the header Accept takes."""
    title = error.phrase or http.HTTPStatus(error.status).phrase
    status = f"{error.status} {title}"
    kind = _preferred(accept)
    if kind == "text/html":
        body = _PAGE.format(status=status, problem=html.escape(error.problem)).encode()
    elif kind == "application/json":
        body = msgspec.json.encode({"message": f"{error.problem}<br /><br />\n\n\n", "code": status, "title": title})
    else:
        body = f"{status}\n\n{error.problem}\n\n\n".encode()
    charset = "" if kind == "application/json" else "; charset=UTF-8"
    return Response(body, error.status, error.headers, kind + charset)


def _preferred(accept: str) -> str:
    """Returns text/html or application/json, whichever the client takes rather; text/plain if it takes neither."""
    best, kind = 0.0, "text/plain"
    for offer in ("text/html", "application/json"):
        quality = _quality(accept, offer)
        if quality > best:
            best, kind = quality, offer
    return kind


def _quality(accept: str, offer: str) -> float:
    """Returns how much a client wants a media type, from 0 to 1. The most specific range that matches counts."""
    found, quality = -1, 0.0
    for part in accept.split(","):
        name, *parameters = (word.strip().lower() for word in part.split(";"))
        specific = {offer: 2, offer.partition("/")[0] + "/*": 1, "*/*": 0}.get(name, -1)
        if specific > found:
            found, quality = specific, _weight(parameters)
    return quality


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
