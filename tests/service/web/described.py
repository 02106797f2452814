"""Holds answers against what is told of the handlers: a status that is not told of is a fault, and so is another document."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from urllib.parse import unquote

from starlette.routing import Route

from cowherd.service.web.openapi import operations
from cowherd.service.web.operation import JSON, Operation
from cowherd.service.web.routes import ROUTES
from cowherd.service.web.schemas.named import DOCUMENTS
from cowherd.service.web.schemas.validation import problems

_ROUTES = {route.path: route for route in ROUTES if isinstance(route, Route)}
_OF_ALL = {"connection", "content-length", "content-type", "date", "transfer-encoding", "x-openstack-request-id"}
_TOLD = {(path, method): told for path, method, _, told in operations(ROUTES)}


def told_of(method: str, target: str) -> tuple[str, Operation] | None:
    """Returns the path of the route that a request leads to, and what is told of its handler; None if no handler answers."""
    path = re.sub(r"^/+v2(\.(\d|1[0-8]))?(?=/|$)/*", "/v2/", unquote(target.partition("?")[0]))
    for pattern, route in _ROUTES.items():
        if route.path_regex.match(path):
            told = _TOLD.get((pattern, method))
            return None if told is None else (pattern, told)
    return None


def faults(method: str, target: str, status: int, headers: Mapping[str, str], body: bytes) -> Iterator[str]:
    """Gives in what an answer is not as it is told, as sentences; `headers` by names in lower case."""
    found = told_of(method, target)
    if found is None:
        return
    path, told = found
    if status not in told.statuses(path):
        yield f"{method} {path}: the status {status} is not told of; these are: {', '.join(map(str, told.statuses(path)))}"
    if status >= 500 and status != 503:
        yield f"{method} {path}: {status}"
    if status < 400:
        known = _OF_ALL | {name.lower() for name in told.sent}
        yield from (f"{method} {path}: the header {name} is not told of" for name in headers.keys() - known)
    document = _document_of(told, status)
    kind = headers.get("content-type", "").partition(";")[0]
    if body and kind not in _kinds(told, status):
        yield f"{method} {path}: {status}: a body of {kind} is not told of"
    if document is None or method == "HEAD" or kind != JSON:
        return
    yield from (f"{method} {path}: {status}: {problem}" for problem in problems(json.loads(body), DOCUMENTS[document]))


def _kinds(told: Operation, status: int) -> Collection[str]:
    """The media types that an answer with a body may have."""
    if status >= 400:
        return (JSON, "text/html", "text/plain")
    return (told.gives or {}) if status in (told.status, 206) else ()


def _document_of(told: Operation, status: int) -> str | None:
    if status >= 400:
        return "error"
    return told.gives.get(JSON) if told.gives and status == told.status else None
