"""Resources and their methods: a path, with a handler for each method that it has."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, cast

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

from cowherd.service.web.errors import BadRequest, MethodNotAllowed, NotFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import Receive, Scope, Send

    from cowherd.service.web.call import Call
    from cowherd.service.web.errors import WebError

    Handler = Callable[[Call], Response | Awaitable[Response]]

_TAKES_BODY = "takes_body"


def takes_body(handler: Handler) -> Handler:
    """Marks a handler that takes a body. A request with one is refused by the others."""
    setattr(handler, _TAKES_BODY, True)
    return handler


class Resource:
    """What lies at a path. A coroutine as handler reads the body itself; a function runs in a thread, and gets the body whole."""

    def __init__(self, handlers: dict[str, Handler], *, tells_methods: bool = True):
        self.handlers, self._tells_methods = handlers, tells_methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, as an ASGI application."""
        call: Call = scope["cowherd.call"]
        call.request.scope["path_params"] = scope["path_params"]
        handler = self.handlers.get(scope["method"])
        if handler is not None:
            answer = await _answer(handler, call)
        elif scope["method"] == "OPTIONS":
            answer = Response(None, 200, {"Allow": ", ".join(self.handlers)})
        else:
            raise self._refusal(scope["method"])
        await answer(scope, receive, send)

    def _refusal(self, method: str) -> WebError:
        if not self._tells_methods:
            return NotFound("The resource could not be found.")
        allowed = ", ".join(self.handlers)
        return MethodNotAllowed(f"The method {method} is not allowed for this resource.", {"Allow": allowed})


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


def untold_resource(path: str, **handlers: Handler) -> Route:
    """Returns a route as `resource` does, to what answers other methods as if it weren't there: so Glance does with some."""
    return Route(path, Resource(handlers, tells_methods=False))
