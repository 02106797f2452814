"""The application: finds out who asks, leads each request to its resource, and turns errors into answers."""

from __future__ import annotations

import logging
import secrets
import uuid
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.routing import Router

from cowherd.service.web import metrics, versions
from cowherd.service.web.call import Call, ClientGone
from cowherd.service.web.errors import Forbidden, HeadTooLarge, NotFound, WebError, answer_to_error
from cowherd.service.web.faults import web_error_of
from cowherd.service.web.page.visitor import is_for_people, refuse_strange_names, visitor
from cowherd.service.web.routes import ROUTES

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from cowherd.service.policy.personas import Caller
    from cowherd.service.web.service import Service

MOST_REQUEST_ID_CHARACTERS = 64
_NO_NAMES = (".", "..")
_log = logging.getLogger("cowherd.service")


class _Answering:
    """Sends an answer, with the id of its request, and knows whether it has begun."""

    def __init__(self, send: Send, request_id: str):
        self._send, self._request_id, self.begun = send, request_id, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            message["headers"] = [*message["headers"], (b"x-openstack-request-id", self._request_id.encode("latin-1"))]
        await self._send(message)


class App:
    """The service as an ASGI application. Each request is answered by what `service` is when it comes."""

    def __init__(self, service: Service):
        self.service = service
        self._router = Router(ROUTES, redirect_slashes=False, default=_nothing)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        request = Request(scope, receive)
        given = request.headers.get("x-openstack-request-id", "")
        answering = _Answering(send, _request_id(given))
        try:
            if len(given) > MOST_REQUEST_ID_CHARACTERS:
                raise HeadTooLarge(f"x-openstack-request-id is longer than {MOST_REQUEST_ID_CHARACTERS} characters")
            await self._answer(Call(self.service, request, answering._request_id), scope, receive, answering)
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001  # whatever a handler did wrong ends its own request, and no other
            await self._tell(error, request, answering)

    async def _answer(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        answer = versions.answer(call)
        if answer is not None:
            await answer(scope, receive, send)
            return
        _refuse_other_sites(call)
        if any(part in _NO_NAMES for part in scope["path"].split("/")):
            raise NotFound("The resource could not be found.")
        if not _is_open(call):
            call.caller = await run_in_threadpool(_caller, call)
        scope["cowherd.call"] = call
        await self._router(scope, receive, send)

    async def _tell(self, error: Exception, request: Request, answering: _Answering) -> None:
        told = web_error_of(error)
        if told is None or told.status == 500 or answering.begun:
            _log.error("%s %s %s", answering._request_id, request.method, request.url.path, exc_info=error)
        if answering.begun:
            raise error
        told = told or WebError("The server has either erred or is incapable of performing the requested operation.")
        # Whoever asks for the head only is told of the page that a GET would give.
        accept = "text/html" if request.method == "HEAD" else request.headers.get("accept", "")
        answer = answer_to_error(accept, told)
        await answer(request.scope, request.receive, answering)


def _request_id(given: str) -> str:
    if not given or len(given) > MOST_REQUEST_ID_CHARACTERS:
        return f"req-{uuid.UUID(bytes=secrets.token_bytes(16), version=4)}"
    return given if given.startswith("req-") else f"req-{given}"


def _caller(call: Call) -> Caller:
    if is_for_people(call.request.url.path):
        return visitor(call)
    return call.service.auth.caller(call.request.headers)


def _is_open(call: Call) -> bool:
    """Tells whether a request is answered without asking who sends it."""
    path = call.request.url.path
    return path == "/healthcheck" or (path == metrics.PATH and metrics.is_local(call.request))


def _refuse_other_sites(call: Call) -> None:
    """Raises `Forbidden` for what a browser sends for a page of another site.

    Without tokens, whoever can reach the address may do all: a page that somebody reads on this host must not.
    """
    origin = call.header("origin")
    if origin is None or call.service.settings.auth != "none":
        return
    if origin.partition("://")[2] != call.header("host"):
        raise Forbidden(f"Pages of {origin} may ask nothing of this service.")
    refuse_strange_names(call)  # for which the stranger's own page and this service are one site


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    raise NotFound("The resource could not be found.")
