"""Resources and their methods: a path, with a handler for each method that it has."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, cast

from starlette.concurrency import run_in_threadpool
from starlette.routing import Route

from cowherd.service.web.errors import BadRequest, MethodNotAllowed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from cowherd.service.web.call import Call

    Handler = Callable[[Call], Response | Awaitable[Response]]

_TAKES_BODY = "takes_body"


def takes_body(handler: Handler) -> Handler:
    """Marks a handler that takes a body. A request with one is refused by the others."""
    setattr(handler, _TAKES_BODY, True)
    return handler


class Resource:
    """What lies at a path. A coroutine as handler reads the body itself; a function runs in a thread, and gets the body whole."""

    def __init__(self, handlers: dict[str, Handler]):
        self.handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, as an ASGI application."""
        call: Call = scope["cowherd.call"]
        call.request.scope["path_params"] = scope["path_params"]
        handler = self.handlers.get(scope["method"])
        if handler is None:
            allowed = ", ".join(self.handlers)
            raise MethodNotAllowed(f"The method {scope['method']} is not allowed for this resource.", {"Allow": allowed})
        answer = await _answer(handler, call)
        await answer(scope, receive, send)


async def _answer(handler: Handler, call: Call) -> Response:
    if call.has_body and not getattr(handler, _TAKES_BODY, False):
        raise BadRequest("A body is not expected with this request.")
    if inspect.iscoroutinefunction(handler):
        return cast("Response", await handler(call))
    if call.has_body:
        await call.read_document()
    return cast("Response", await run_in_threadpool(handler, call))


def resource(path: str, **handlers: Handler) -> Route:
    """Returns the route to what lies at `path`: a handler for each method."""
    return Route(path, Resource(handlers))
